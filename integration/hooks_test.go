package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// sh is a hook that runs a shell script.
func sh(script string) []specs.Hook {
	return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}}}
}

// Hooks of the container's namespaces run in the guest, between those of the host.
func TestHooksInside(t *testing.T) {
	needVM(t)
	eachDriver(t, func(t *testing.T, r runtime) {
		dir := t.TempDir()
		where := "; echo $(uname -r) > /mnt/kernel; echo $(pwd) $(id -u) $ARG"
		c := r.create(t, r.bundle(t, idle, annotate("org.example", "yes"), bind(dir, "/mnt"), func(s *specs.Spec) {
			s.Process.User.UID = 1000
			s.Hooks = &specs.Hooks{
				CreateRuntime:   sh("echo createRuntime >> " + dir + "/order"),
				CreateContainer: sh("cat > /mnt/createContainer.json; chmod 777 /mnt /mnt/order; echo createContainer >> /mnt/order" + where + " > /mnt/create"),
				StartContainer:  sh("cat > /mnt/startContainer.json; echo startContainer >> /mnt/order" + where + " > /mnt/start"),
				Poststart:       sh("echo poststart >> " + dir + "/order"),
			}
			s.Hooks.CreateContainer[0].Env = []string{"PATH=/bin", "ARG=there"}
		}), options{})
		order := func(want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, strings.Fields(testutil.ReadFile(t, dir+"/order"))); diff != "" {
				t.Errorf("hooks (-want +got):\n%s", diff)
			}
		}
		order("createRuntime", "createContainer")
		checkHookState(t, c, dir+"/createContainer.json", "creating", 1)
		if got := testutil.ReadFile(t, dir+"/create"); got != "/ 0 there\n" {
			t.Errorf("createContainer runs as %q", got)
		}
		c.start(t)
		c.stdout.wait(t, "ready\n")
		order("createRuntime", "createContainer", "startContainer", "poststart")
		checkHookState(t, c, dir+"/startContainer.json", "created", 1)
		if got := testutil.ReadFile(t, dir+"/start"); got != "/ 1000\n" {
			t.Errorf("startContainer runs as %q", got)
		}
		if want := c.exec(t, "uname", "-r").Out; testutil.ReadFile(t, dir+"/kernel") != want {
			t.Errorf("hooks run on kernel %s, not %s", testutil.ReadFile(t, dir+"/kernel"), want)
		}
		c.end(t)
	})
}

// Hooks of the guest that fail, are missing or take too long end what they belong to.
func TestFailingHookInside(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	second := 1
	late := sh("sleep 1000")
	late[0].Timeout = &second
	for _, test := range []struct {
		name  string
		hooks []specs.Hook
		want  string
	}{
		{"failing", sh("echo no luck today >&2; exit 3"), `hook #0: /bin/sh: exit status 3, output: "no luck today"`},
		{"missing", []specs.Hook{{Path: "/no/such/hook"}}, "hook #0: /no/such/hook does not exist"},
		{"late", late, "hook #0: /bin/sh did not end within 1s"},
	} {
		creating := r.bundle(t, func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateContainer: test.hooks} })
		if got, want := refusal(t, r.tryCreate(t, creating)), "createContainer "+test.want; !strings.Contains(got, want) {
			t.Errorf("%s: create says %q, not %q", test.name, got, want)
		}
		c := r.create(t, r.bundle(t, func(s *specs.Spec) { s.Hooks = &specs.Hooks{StartContainer: test.hooks} }), options{})
		if got, want := r.refuse(t, "start", c.id), "startContainer "+test.want; !strings.Contains(got, want) {
			t.Errorf("%s: start says %q, not %q", test.name, got, want)
		}
		c.wait(t)
		if got := c.status(t); got != specs.StateStopped {
			t.Errorf("%s: the container is %s", test.name, got)
		}
		c.delete(t)
	}
}

// A hook does not outlive the create that is killed.
func TestHookOfKilledCreate(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	file := filepath.Join(t.TempDir(), "pid")
	id := r.newID(t)
	bundle := r.bundle(t, func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{CreateRuntime: sh("echo $$ > " + file + "; exec sleep 1000")}
	})
	cmd, _ := r.command(t, "create", "--bundle", bundle, id)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	eventually(t, patience, "hook runs", func() bool {
		text, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid != 0
	})
	if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitDeath(t, patience, "hook", pid)
	r.must(t, "delete", "--force", id)
}
