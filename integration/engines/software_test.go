package engines

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// TestSoftware runs what people run in containers, from Debian's packages, with
// runc and with vmruntime.
func TestSoftware(t *testing.T) {
	tar := filepath.Join(checkout(), "build/images/software.tar")
	if _, err := os.Stat(tar); err != nil {
		t.Fatalf("%v: run hack/software.sh", err)
	}
	host(t, "docker", "load", "-q", "-i", tar)
	for _, runtime := range []string{"runc", "vmruntime"} {
		e := engine{name: "docker", runtime: runtime}
		for name, try := range map[string]func(*testing.T, engine){
			"nginx": nginx, "redis": redis, "postgres": postgres, "names": names, "signal": signalHandler, "apt": aptInstall,
		} {
			t.Run(name+"/"+runtime, func(t *testing.T) {
				nothingLeft(t)
				try(t, e)
			})
		}
	}
}

// published is where a port of the container is reached on the host.
func (e engine) published(t *testing.T, container, port string) string {
	t.Helper()
	address, _, _ := strings.Cut(e.must(t, "port", container, port), "\n")
	return strings.Replace(address, "0.0.0.0", "127.0.0.1", 1)
}

func nginx(t *testing.T, e engine) {
	site := t.TempDir()
	testutil.WriteFile(t, filepath.Join(site, "index.html"), "hello\n")
	name := e.start(t, "-p", "80", "-v", site+":/var/www/html:ro", "software", "nginx", "-g", "daemon off;")
	url := "http://" + e.published(t, name, "80") + "/"
	until(t, "the page", func() bool { return page(url) == "hello\n" })
	testutil.WriteFile(t, filepath.Join(site, "index.html"), "changed\n")
	same(t, "the page, changed on the host", page(url), "changed\n")
	e.must(t, "stop", "-t", "60", name)
	same(t, "exit status", e.inspect(t, name, "{{.State.ExitCode}}"), "0")
}

// page is what is there now, or why there is nothing.
func page(url string) string {
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func redis(t *testing.T, e engine) {
	name := e.start(t, "-p", "6379", "software", "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/tmp")
	e.logsHave(t, name, "Ready to accept connections")
	_, port, _ := strings.Cut(e.published(t, name, "6379"), ":")
	until(t, "redis", func() bool { return finish(t, command(t, "redis-cli", "-p", port, "ping")).Out == "PONG\n" })
	t.Log(host(t, "redis-benchmark", "-p", port, "-n", "2000", "-c", "10", "-d", "1000", "-t", "set,get,incr,lpush", "-q"))
	same(t, "the counter", host(t, "redis-cli", "-p", port, "get", "counter:__rand_int__"), "2000\n")
	same(t, "saved", host(t, "redis-cli", "-p", port, "save"), "OK\n")
	e.must(t, "stop", "-t", "60", name)
	same(t, "exit status", e.inspect(t, name, "{{.State.ExitCode}}"), "0")
	contains(t, "its last words", e.must(t, "logs", name), "bye bye")
}

// startPostgres runs the cluster that Debian's package makes.
const startPostgres = `install -d -o postgres /run/postgresql; exec setpriv --reuid postgres --regid postgres --init-groups \
	/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main -c config_file=/etc/postgresql/15/main/postgresql.conf -c listen_addresses=`

func postgres(t *testing.T, e engine) {
	volume := newID()
	// After the container: cleanups run in reverse.
	t.Cleanup(func() { host(t, "docker", "volume", "rm", volume) })
	// Its sockets cannot be made on the share.
	options := []string{"--tmpfs", "/run", "-v", volume + ":/var/lib/postgresql", "software", "sh", "-c", startPostgres}
	sql := func(container, statement string) result {
		return e.call(t, "exec", "-u", "postgres", container, "psql", "-qAt", "-c", statement)
	}
	ready := func(container string) {
		until(t, "postgres", func() bool { return sql(container, "select 1").Out == "1\n" })
	}
	const count = "select count(*), sum(n) from t"

	name := e.start(t, options...)
	ready(name)
	if r := sql(name, "create table t (n int); insert into t select generate_series(1, 1000)"); r.Code != 0 {
		t.Fatal(r)
	}
	e.must(t, "kill", name)
	same(t, "exit status", e.must(t, "wait", name), "137")
	e.must(t, "start", name)
	ready(name)
	same(t, "after a crash", sql(name, count).Out, "1000|500500\n")
	e.must(t, "kill", "-s", "INT", name)
	same(t, "exit status", e.must(t, "wait", name), "0")
	another := e.start(t, options...)
	ready(another)
	same(t, "in another container", sql(another, count).Out, "1000|500500\n")
}

// Three containers, each of which knows the next one by its name.
func names(t *testing.T, e engine) {
	network := e.network(t)
	in := func(alias, script string) string {
		return e.start(t, "--network", network, "--network-alias", alias, "busybox", "sh", "-c", script)
	}
	in("database", "while :; do echo rows | nc -l -p 5432; done")
	in("application", "while :; do nc database 5432 </dev/null | sed 's/^/page of /' | nc -l -p 80; done")
	in("bystander", "nc -l -p 80")
	// Whoever is not listening yet is asked again.
	got := e.run(t, "--network", network, "busybox", "sh", "-c",
		`until out=$(nc application 80 </dev/null 2>/dev/null) && [ -n "$out" ]; do sleep 0.2; done; echo "$out"; ping -c 1 -q bystander >/dev/null && echo pong; nslookup nobody >/dev/null 2>&1 || echo unknown`)
	same(t, "through both", got, "page of rows\npong\nunknown")
}

const handles = `
import signal, sys, time
def end(*_):
    print("ending", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    time.sleep(1000)
`

func signalHandler(t *testing.T, e engine) {
	name := e.start(t, "software", "python3", "-c", handles)
	e.logsHave(t, name, "ready")
	e.must(t, "stop", "-t", "60", name)
	same(t, "output", e.must(t, "logs", name), "ready\nending")
	same(t, "exit status", e.inspect(t, name, "{{.State.ExitCode}}"), "3")
}

// dpkg maps files, changes those that are unlinked and renames a lot.
func aptInstall(t *testing.T, e engine) {
	name := e.idleOf(t, "software")
	e.exec(t, name, "apt-get update && apt-get install -y file less")
	contains(t, "file", e.exec(t, name, "file /usr/bin/perl"), "ELF 64-bit LSB")
	contains(t, "less", e.exec(t, name, "pager --version"), "less 590")
	same(t, "dpkg's opinion", e.exec(t, name, "dpkg --audit; dpkg --verify file less libmagic1 | grep -v /usr/share || true"), "")
	e.exec(t, name, "apt-get remove -y file")
	same(t, "removed", e.exec(t, name, "command -v file || echo gone"), "gone")
}

// idleOf is idle with another image than busybox.
func (e engine) idleOf(t *testing.T, image string) string {
	t.Helper()
	return e.start(t, image, "sh", "-c", forever)
}
