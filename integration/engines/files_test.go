package engines

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

var fileRows = []feature{
	{name: "volume that outlives its container", try: volume},
	{name: "bind mount of a directory", try: bindDirectory},
	{name: "bind mount, read-only", try: bindReadOnly},
	{name: "bind mount of a file", try: bindFile},
	{name: "bind mounts inside each other", try: bindNested},
	{name: "bind mount: propagation options", try: bindPropagation},
	{name: "bind mount of a Unix socket", try: bindSocket, except: map[string]exception{
		"vmruntime": {why: "a socket of the host's kernel has no peer in the guest's",
			line: []string{"-v", "/run/docker.sock:/s", "busybox", "true"}, refusal: "socket"},
	}},
	{name: "--tmpfs and --mount type=tmpfs", try: tmpfs},
	{name: "--read-only", try: readOnly},
	{name: "--shm-size", try: shmSize},
	{name: "--volumes-from", try: volumesFrom},
	{name: "cp into a running container", try: copyIn},
	{name: "cp out of a running container", try: copyOut},
	{name: "cp into and out of a volume", try: copyVolume},
	{name: "cp with a stopped container", try: copyStopped},
	{name: "cp: never the host's files", try: copyHostile},
	{name: "diff", try: diff},
	{name: "commit", try: commit},
	{name: "export", try: export},
}

func volume(t *testing.T, e engine) {
	name := newID()
	t.Cleanup(func() { e.call(t, "volume", "rm", "-f", name) })
	e.run(t, "-v", name+":/data", "busybox", "sh", "-c", "echo kept >/data/f")
	same(t, "the file", e.run(t, "-v", name+":/data", "busybox", "cat", "/data/f"), "kept")
}

func bindDirectory(t *testing.T, e engine) {
	dir := t.TempDir()
	testutil.WriteFile(t, filepath.Join(dir, "in"), "of the host\n")
	got := e.run(t, "-v", dir+":/data", "busybox", "sh", "-c", "cat /data/in; echo of the guest >/data/out; mkdir -p /data/a/b; ln -s in /data/link; chown 1000:1000 /data/a")
	same(t, "in", got, "of the host")
	same(t, "out", testutil.ReadFile(t, filepath.Join(dir, "out")), "of the guest\n")
	same(t, "the owner", host(t, "stat", "-c", "%u:%g", filepath.Join(dir, "a")), "1000:1000\n")
}

func bindReadOnly(t *testing.T, e engine) {
	dir := t.TempDir()
	testutil.WriteFile(t, filepath.Join(dir, "f"), "text\n")
	got := e.run(t, "-v", dir+":/data:ro", "busybox", "sh", "-c", "cat /data/f; echo x >/data/f; mount -o remount,rw /data; touch /data/g; true")
	same(t, "the file", got, "text")
	same(t, "afterwards", testutil.ReadFile(t, filepath.Join(dir, "f")), "text\n")
	if _, err := os.Stat(filepath.Join(dir, "g")); err == nil {
		t.Error("written")
	}
}

// The host changes the file in place while the container runs.
func bindFile(t *testing.T, e engine) {
	file := filepath.Join(t.TempDir(), "file")
	testutil.WriteFile(t, file, "one\n")
	name := e.idle(t, "-v", file+":/etc/file")
	same(t, "first", e.exec(t, name, "cat /etc/file; echo two >/etc/file"), "one")
	same(t, "on the host", testutil.ReadFile(t, file), "two\n")
	testutil.WriteFile(t, file, "three\n")
	same(t, "live", e.exec(t, name, "cat /etc/file"), "three")
}

func bindNested(t *testing.T, e engine) {
	outer, inner := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(outer, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	testutil.WriteFile(t, filepath.Join(outer, "f"), "outer\n")
	testutil.WriteFile(t, filepath.Join(inner, "f"), "inner\n")
	got := e.run(t, "-v", outer+":/data:ro", "-v", inner+":/data/sub", "busybox", "sh", "-c", "cat /data/f /data/sub/f; touch /data/sub/new; touch /data/new 2>/dev/null || echo refused")
	same(t, "files", got, "outer\ninner\nrefused")
	if _, err := os.Stat(filepath.Join(inner, "new")); err != nil {
		t.Error(err)
	}
}

func bindPropagation(t *testing.T, e engine) {
	dir := t.TempDir()
	host(t, "mount", "-t", "tmpfs", "tmpfs", dir)
	defer host(t, "umount", dir)
	host(t, "mount", "--make-shared", dir)
	testutil.WriteFile(t, filepath.Join(dir, "f"), "text\n")
	for _, mode := range []string{"private", "rprivate", "slave", "rslave", "shared", "rshared"} {
		same(t, mode, e.run(t, "-v", dir+":/data:"+mode, "busybox", "cat", "/data/f"), "text")
	}
}

func bindSocket(t *testing.T, e engine) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	e.run(t, "-v", path+":/s", "busybox", "test", "-S", "/s")
}

func tmpfs(t *testing.T, e engine) {
	got := e.run(t, "--tmpfs", "/t:size=1m,mode=1777", "--mount", "type=tmpfs,destination=/m,tmpfs-size=2097152", "busybox", "sh", "-c",
		"df -k /t /m | awk 'NR > 1 { print $2 }'; stat -c %a /t; mkfifo /t/fifo && echo fifo")
	same(t, "inside", got, "1024\n2048\n1777\nfifo")
}

func readOnly(t *testing.T, e engine) {
	got := e.run(t, "--read-only", "--tmpfs", "/tmp", "busybox", "sh", "-c", "touch /f 2>/dev/null || echo refused; touch /tmp/f && echo tmp")
	same(t, "inside", got, "refused\ntmp")
}

// shmSize is in blocks of the file system, which are larger through 9p.
func shmSize(t *testing.T, e engine) {
	var blocks, size int
	got := e.run(t, "--shm-size", "3m", "busybox", "stat", "-f", "-c", "%b %S", "/dev/shm")
	if _, err := fmt.Sscan(got, &blocks, &size); err != nil {
		t.Fatal(err)
	}
	if blocks*size > 3<<20 || blocks*size < 2<<20 {
		t.Errorf("%d blocks of %d bytes, want about 3 MiB", blocks, size)
	}
}

func volumesFrom(t *testing.T, e engine) {
	name := e.idle(t, "-v", "/data")
	e.exec(t, name, "echo shared >/data/f")
	same(t, "the file", e.run(t, "--volumes-from", name, "busybox", "cat", "/data/f"), "shared")
}

// copied is a tree to copy, with what its owner and modes are.
func copied(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	testutil.WriteFile(t, filepath.Join(dir, "sub", "f"), "copied\n")
	if err := os.Symlink("sub/f", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyIn(t *testing.T, e engine) {
	name := e.idle(t)
	e.must(t, "cp", copied(t), name+":/tmp/tree")
	same(t, "inside", e.exec(t, name, "cat /tmp/tree/link /tmp/tree/sub/f"), "copied\ncopied")
}

func copyOut(t *testing.T, e engine) {
	name := e.idle(t)
	e.exec(t, name, "mkdir -p /root/d; echo root >/root/d/f; ln -s f /root/d/link")
	dir := t.TempDir()
	e.must(t, "cp", name+":/root/d", filepath.Join(dir, "root"))
	same(t, "of the root", testutil.ReadFile(t, filepath.Join(dir, "root", "link")), "root\n")
}

func copyVolume(t *testing.T, e engine) {
	name := e.idle(t, "-v", "/vol")
	e.must(t, "cp", copied(t), name+":/vol/tree")
	same(t, "inside", e.exec(t, name, "cat /vol/tree/sub/f; mv /vol/tree /vol/other"), "copied")
	dir := t.TempDir()
	e.must(t, "cp", name+":/vol/other", filepath.Join(dir, "vol"))
	same(t, "outside", testutil.ReadFile(t, filepath.Join(dir, "vol", "sub", "f")), "copied\n")
}

func copyStopped(t *testing.T, e engine) {
	name := e.start(t, "busybox", "sh", "-c", "echo left >/root/f")
	e.must(t, "wait", name)
	e.must(t, "cp", copied(t), name+":/root/tree")
	dir := t.TempDir()
	e.must(t, "cp", name+":/root/.", dir)
	same(t, "what it left", testutil.ReadFile(t, filepath.Join(dir, "f")), "left\n")
	same(t, "what was copied in", testutil.ReadFile(t, filepath.Join(dir, "tree", "sub", "f")), "copied\n")
}

// Links of the container end in the container.
func copyHostile(t *testing.T, e engine) {
	outside := t.TempDir()
	name := e.idle(t, "-v", "/vol")
	testutil.WriteFile(t, filepath.Join(outside, "secret"), "the host's\n")
	e.exec(t, name, "mkdir -p "+filepath.Dir(outside)+"; for d in /root /vol; do ln -s "+outside+" $d/out; ln -s / $d/up; ln -s ../../../../../.. $d/upper; done")
	var paths []string
	for _, dir := range []string{"/root", "/vol"} {
		paths = append(paths, dir+"/out", dir+"/up"+outside, dir+"/upper"+outside)
	}
	for _, path := range paths {
		path += "/secret"
		if r := e.call(t, "cp", name+":"+path, filepath.Join(t.TempDir(), "got")); r.Code == 0 {
			t.Errorf("%s: copied from the host", path)
		}
	}
	file := filepath.Join(t.TempDir(), "f")
	testutil.WriteFile(t, file, "the container's\n")
	for _, path := range paths {
		e.call(t, "cp", file, name+":"+path+"/new")
	}
	if _, err := os.Stat(filepath.Join(outside, "new")); err == nil {
		t.Error("copied to the host")
	}
}

func diff(t *testing.T, e engine) {
	name := e.idle(t)
	e.exec(t, name, "touch /new; rm /etc/group; echo >>/etc/passwd")
	lines := strings.Split(e.must(t, "diff", name), "\n")
	contains(t, "diff", strings.Join(lines, "\n"), "A /new", "D /etc/group", "C /etc/passwd")
}

func commit(t *testing.T, e engine) {
	name, image := e.idle(t), newID()
	e.exec(t, name, "echo committed >/root/f")
	t.Cleanup(func() { e.call(t, "rmi", "-f", image) })
	e.must(t, "commit", name, image)
	same(t, "the file", e.run(t, image, "cat", "/root/f"), "committed")
}

func export(t *testing.T, e engine) {
	name, tar := e.idle(t), filepath.Join(t.TempDir(), "tar")
	e.exec(t, name, "echo exported >/root/f")
	e.must(t, "export", "-o", tar, name)
	same(t, "the file", host(t, "tar", "-xOf", tar, "root/f"), "exported\n")
}
