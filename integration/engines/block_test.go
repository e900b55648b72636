package engines

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

const (
	configFile = "/etc/vmruntime/config.toml"
	// diskStore is rootfs_store.
	diskStore = "/var/lib/vmruntime/rootfs"
)

// onDisks has every container of the test have its root file system on disks. At its
// end, with all containers gone, nothing is left of these but the images'.
func onDisks(t *testing.T) {
	t.Helper()
	before := testutil.ReadFile(t, configFile)
	testutil.WriteFile(t, configFile, before+"rootfs = \"block\"\n")
	t.Cleanup(func() { testutil.WriteFile(t, configFile, before) })
	t.Cleanup(func() {
		host(t, program(), "image", "gc")
		if uppers := disksOf(t, "uppers"); len(uppers) > 0 {
			t.Errorf("without containers there is still what they wrote: %q", uppers)
		}
	})
}

func disksOf(t *testing.T, dir string) []string {
	t.Helper()
	disks, err := filepath.Glob(filepath.Join(diskStore, dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return disks
}

// TestBlock runs on disks what 9p cannot serve, and what engines do with the files of
// containers.
func TestBlock(t *testing.T) {
	tar := filepath.Join(checkout(), "build/images/software.tar")
	if _, err := os.Stat(tar); err != nil {
		t.Fatalf("%v: run hack/software.sh", err)
	}
	host(t, "docker", "load", "-q", "-i", tar)
	docker := engine{name: "docker", runtime: "vmruntime"}
	onDisks(t)
	for name, try := range map[string]func(*testing.T, engine){
		"postgres": pgbench, "sqlite": sqlite, "inotify": inotify, "apt": aptInstall, "once": oneImage,
	} {
		t.Run(name, func(t *testing.T) { try(t, docker) })
	}
	for _, e := range []engine{docker, {name: "podman", runtime: "vmruntime"}} {
		t.Run("stop-start/"+e.name, func(t *testing.T) { stopStart(t, e) })
	}
	t.Run("removed", func(t *testing.T) { removedImage(t, docker) })
}

// pgbench makes a cluster in the root file system, and a database with load on it.
func pgbench(t *testing.T, e engine) {
	name := e.idleOf(t, "software")
	psql := "PATH=/usr/lib/postgresql/15/bin:$PATH; cd /; "
	e.exec(t, name, "install -d -o postgres /data")
	asPostgres := func(script string) string {
		return e.must(t, "exec", "-u", "postgres", name, "sh", "-c", psql+script)
	}
	contains(t, "initdb", asPostgres("initdb -D /data/main"), "Success. You can now start the database server")
	asPostgres("pg_ctl -w -t 120 -D /data/main -o '-k /data -c listen_addresses=' -l /data/log start")
	asPostgres("pgbench -q -i -s 1 -h /data postgres")
	out := asPostgres("pgbench -c 4 -t 25 -h /data postgres")
	t.Log(out)
	contains(t, "pgbench", out, "number of transactions actually processed: 100/100", "number of failed transactions: 0")
	same(t, "its history", asPostgres("psql -h /data -qAt -c 'select count(*) from pgbench_history' postgres"), "100")
	// A crash of the whole machine.
	e.must(t, "kill", name)
	same(t, "exit status", e.must(t, "wait", name), "137")
	e.must(t, "start", name)
	asPostgres("rm -f /data/main/postmaster.pid; pg_ctl -w -t 120 -D /data/main -o '-k /data -c listen_addresses=' -l /data/log start")
	same(t, "its history after a crash", asPostgres("psql -h /data -qAt -c 'select count(*) from pgbench_history' postgres"), "100")
	asPostgres("pg_ctl -w -D /data/main stop")
}

// sqlite maps its database, and in WAL mode a file that several processes share.
func sqlite(t *testing.T, e engine) {
	name := e.idleOf(t, "software")
	// The wait for another's lock begins before the first pragma: that of journal_mode
	// meets the end of another writer, which locks the database.
	const sql = "sqlite3 -cmd '.timeout 60000' /root/db 'pragma mmap_size=268435456; pragma journal_mode=wal; "
	e.exec(t, name, sql+"create table t (n integer, text text);'")
	const insert = "with recursive c(n) as (select 1 union all select n + 1 from c where n < 2000) insert into t select n, hex(randomblob(64)) from c;"
	e.exec(t, name, "for i in 1 2 3; do "+sql+insert+"' >/dev/null & done; wait")
	same(t, "rows", e.exec(t, name, sql+"select count(*), sum(n) from t; pragma integrity_check;'"), "268435456\nwal\n6000|6003000\nok")
}

// inotify sees what others do, also to files of the image.
func inotify(t *testing.T, e engine) {
	name := e.idleOf(t, "software")
	same(t, "events", e.exec(t, name, `touch /root/old; cd /root
		inotifywait -m -q --format '%e %w%f' -o /tmp/events /root /etc/passwd 2>/dev/null & waiter=$!
		until [ -e /tmp/events ] && grep -q inotify /proc/$waiter/fdinfo/*; do sleep 0.1; done
		until [ "$(cat /proc/$waiter/fdinfo/* | grep -c '^inotify')" = 2 ]; do sleep 0.1; done
		echo x > /root/new; mv /root/old /root/moved; rm /root/new; echo '# more' >> /etc/passwd
		until grep -q 'CLOSE_WRITE.* /etc/passwd' /tmp/events; do sleep 0.1; done
		kill $waiter; grep -E '^(CREATE|MOVED_FROM|MOVED_TO|DELETE|MODIFY) ' /tmp/events | sort -u`),
		"CREATE /root/new\nDELETE /root/new\nMODIFY /etc/passwd\nMODIFY /root/new\nMOVED_FROM /root/old\nMOVED_TO /root/moved")
}

// Containers of one image share its disk; one that was copied into has another.
func oneImage(t *testing.T, e engine) {
	host(t, program(), "image", "gc")
	images := func() int { return len(disksOf(t, "images")) }
	before := images()
	for range 2 {
		contains(t, "output", e.run(t, "busybox", "cat", "/etc/passwd"), "root:x:0:0:")
	}
	// A disk and its record.
	if now := images(); now > before+2 {
		t.Errorf("two containers of one image have made %d files", now-before)
	}
	name := e.newName(t)
	e.must(t, e.runLine(t, "create", name, "busybox", "cat", "/etc/passwd")...)
	file := filepath.Join(t.TempDir(), "passwd")
	testutil.WriteFile(t, file, "changed:x:0:0::/:/bin/sh\n")
	e.must(t, "cp", file, name+":/etc/passwd")
	same(t, "a file that was copied in", e.must(t, "start", "-a", name), "changed:x:0:0::/:/bin/sh")
	contains(t, "the next container", e.run(t, "busybox", "cat", "/etc/passwd"), "root:x:0:0:")
	// And an image that was built anew under the same name.
	other := newID()
	t.Cleanup(func() {
		e.must(t, "rmi", other)
		e.must(t, "image", "prune", "-f")
	})
	for _, text := range []string{"first", "second"} {
		maker := e.newName(t)
		e.must(t, e.runLine(t, "create", maker, "busybox")...)
		testutil.WriteFile(t, file, text)
		e.must(t, "cp", file, maker+":/etc/text")
		e.must(t, "commit", maker, other)
		same(t, "the file of the image", e.run(t, other, "cat", "/etc/text"), text)
	}
}

// stopStart ends a container in each way that an engine has, and starts it again.
func stopStart(t *testing.T, e engine) {
	name := e.idle(t)
	e.logsHave(t, name, "ready")
	e.exec(t, name, "echo written > /file; rm /etc/group; mkfifo /pipe; chmod 600 /etc/passwd")
	const look = "cat /file; [ -e /etc/group ] || echo gone; [ -p /pipe ] && echo pipe; stat -c %a /etc/passwd"
	const want = "written\ngone\npipe\n600"
	e.must(t, "stop", "-t", "60", name)
	e.must(t, "start", name)
	same(t, "after stop and start", e.exec(t, name, look), want)
	e.exec(t, name, "echo more >> /file")
	e.must(t, "kill", name)
	e.must(t, "wait", name)
	e.must(t, "start", name)
	same(t, "after a kill", e.exec(t, name, look), strings.Replace(want, "\n", "\nmore\n", 1))
	e.must(t, "restart", "-t", "60", name)
	same(t, "after a restart", e.exec(t, name, "tail -n 1 /file"), "more")
	// Another container has none of it.
	same(t, "in another", e.run(t, "busybox", "sh", "-c", "[ -e /file ] || echo clean"), "clean")
}

// removedImage: what there is on disks of an image goes with it.
func removedImage(t *testing.T, e engine) {
	host(t, program(), "image", "gc")
	before := disksOf(t, "images")
	maker, image := e.newName(t), newID()
	e.must(t, e.runLine(t, "create", maker, "busybox")...)
	file := filepath.Join(t.TempDir(), "file")
	testutil.WriteFile(t, file, "text")
	e.must(t, "cp", file, maker+":/text")
	e.must(t, "commit", maker, image)
	name := e.newName(t)
	same(t, "output", e.must(t, e.runLine(t, "run", name, image, "cat", "/text")...), "text")
	e.must(t, "rm", name)
	e.must(t, "rmi", image)
	e.must(t, "rm", maker)
	var freed struct{ Disks struct{ Images, Uppers int } }
	if err := json.Unmarshal([]byte(host(t, program(), "image", "gc")), &freed); err != nil {
		t.Fatal(err)
	}
	if freed.Disks.Images < 1 {
		t.Errorf("collected %+v", freed)
	}
	same(t, "the images' disks", strings.Join(disksOf(t, "images"), " "), strings.Join(before, " "))
}
