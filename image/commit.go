package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	tarball "github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/continuity/fs"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// Commit writes the image of a bundle, with what its container has written as one
// more layer, into a file as docker save does. The layers below come out byte by
// byte as they went in, so that they are shared wherever the image goes. A
// container that writes meanwhile may be caught halfway: pause it first.
func (s *Store) Commit(ctx context.Context, dir, file string) error {
	unlock, err := s.lock(ctx, storeLock, true)
	if err != nil {
		return err
	}
	defer unlock()
	var b Bundle
	if err := readRecord(s.bundleFile(dir), &b); err != nil {
		return fmt.Errorf("bundle %s: it is not made of an image of this store", dir)
	}
	i, err := s.image(b.Image)
	if err != nil {
		return err
	}
	work, remove, err := s.temporary()
	if err != nil {
		return err
	}
	defer func() { _ = remove() }()
	return s.wrap(b, s.commit(ctx, b, i, work, file))
}

func (s *Store) commit(ctx context.Context, b Bundle, i Image, work, file string) error {
	upper := filepath.Join(b.Dir, upperDir)
	mounted, err := isMounted(upper)
	if err != nil {
		return err
	}
	if b.Size > 0 && !mounted {
		if err := mountUpper(ctx, b, upper); err != nil {
			return err
		}
		defer func() { _ = unmount(upper) }()
	}
	top, err := os.Create(filepath.Join(work, "layer.tar"))
	if err != nil {
		return err
	}
	defer top.Close()
	sum := digest.SHA256.Digester()
	if err := writeUpper(filepath.Join(upper, "fs"), io.MultiWriter(top, sum.Hash())); err != nil {
		return err
	}
	config, err := extended(i.Config, sum.Digest())
	if err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	err = s.save(ctx, out, i, top, sum.Digest(), config)
	err = errors.Join(err, out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return nil
}

// writeUpper writes a layer's tar of an overlay's upper directory. A container may
// be at work in it and put symbolic links in the way: the thread that reads it has
// the directory for its root.
func writeUpper(upper string, w io.Writer) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		err := os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_FS))
		if err == nil {
			err = os.NewSyscallError("chroot", unix.Chroot(upper))
		}
		if err == nil {
			err = os.NewSyscallError("chdir", unix.Chdir("/"))
		}
		if err == nil {
			err = writeTree("/", w)
		}
		done <- err
	}()
	return <-done
}

func writeTree(root string, w io.Writer) error {
	changes := tarball.NewChangeWriter(w, root)
	err := filepath.Walk(root, func(file string, info os.FileInfo, err error) error {
		if err != nil || file == root {
			return err
		}
		return writeChange(changes, file, info)
	})
	return errors.Join(err, changes.Close())
}

func writeChange(changes *tarball.ChangeWriter, file string, info os.FileInfo) error {
	if strings.HasPrefix(info.Name(), whiteout) {
		return fmt.Errorf("%.300q: no image can hold a file of such a name", file)
	}
	if stat := info.Sys().(*syscall.Stat_t); stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0 {
		return changes.HandleChange(fs.ChangeKindDelete, file, nil, nil)
	}
	if err := changes.HandleChange(fs.ChangeKindAdd, file, info, nil); err != nil || !info.IsDir() {
		return err
	}
	value := make([]byte, 1)
	if n, err := unix.Lgetxattr(file, overlayOpaque, value); err != nil || n != 1 || value[0] != 'y' {
		return nil
	}
	// Written as the whiteout of such a file, which is what hides all below.
	return changes.HandleChange(fs.ChangeKindDelete, filepath.Join(file, strings.TrimPrefix(whiteoutOpaque, whiteout)), nil, nil)
}

// extended is a configuration with one more layer; whatever else it says stays.
func extended(config []byte, layer digest.Digest) ([]byte, error) {
	var c v1.Image
	fields := map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal(config, &c), json.Unmarshal(config, &fields)); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, layer)
	c.History = append(c.History, v1.History{Created: &now, CreatedBy: "vmruntime image commit"})
	for name, v := range map[string]any{"rootfs": c.RootFS, "history": c.History, "created": now} {
		text, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		fields[name] = text
	}
	return json.Marshal(fields)
}

// save writes what docker save would.
func (s *Store) save(ctx context.Context, out io.Writer, i Image, top *os.File, topID digest.Digest, config []byte) error {
	w := tar.NewWriter(out)
	var names []string
	written := map[digest.Digest]bool{}
	chain := i.chain()
	for n, d := range append(i.Layers[:len(i.Layers):len(i.Layers)], topID) {
		name := d.Encoded() + "/layer.tar"
		names = append(names, name)
		if written[d] {
			continue
		}
		written[d] = true
		var err error
		if n < len(chain) {
			err = s.saveLayer(ctx, w, name, chain[n])
		} else {
			err = saveFile(w, name, top)
		}
		if err != nil {
			return fmt.Errorf("layer %s: %w", d, err)
		}
	}
	configName := digest.FromBytes(config).Encoded() + ".json"
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": nil, "Layers": names}})
	if err != nil {
		return err
	}
	return errors.Join(saveText(w, configName, config), saveText(w, "manifest.json", manifest), w.Close())
}

func saveText(w *tar.Writer, name string, text []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		return err
	}
	_, err := w.Write(text)
	return err
}

func saveFile(w *tar.Writer, name string, f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	_, err = io.Copy(w, io.NewSectionReader(f, 0, size))
	return err
}

// saveLayer puts the tar together again that a layer was unpacked from.
func (s *Store) saveLayer(ctx context.Context, w *tar.Writer, name string, chain digest.Digest) error {
	dir := s.layerDir(chain)
	var l layer
	if err := readRecord(filepath.Join(dir, layerFile), &l); err != nil {
		return err
	}
	split, err := os.Open(filepath.Join(dir, splitFile))
	if err != nil {
		return err
	}
	defer split.Close()
	z, err := gzip.NewReader(split)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: l.Tar}); err != nil {
		return err
	}
	sum := l.DiffID.Verifier()
	getter := treeGetter{ctx, filepath.Join(dir, treeDir)}
	if err := asm.WriteOutputTarStream(getter, storage.NewJSONUnpacker(z), io.MultiWriter(w, sum)); err != nil {
		return err
	}
	if !sum.Verified() {
		return errors.New("its files have changed since it was unpacked")
	}
	return nil
}

// A treeGetter opens the files of a layer, inside its tree.
type treeGetter struct {
	ctx  context.Context
	tree string
}

func (g treeGetter) Get(name string) (io.ReadCloser, error) {
	if err := g.ctx.Err(); err != nil {
		return nil, err
	}
	file, err := fs.RootPath(g.tree, name)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}
