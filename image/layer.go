package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	tarball "github.com/containerd/containerd/v2/pkg/archive"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

const (
	// Files of a layer's directory: its tree, what the store knows of it, and all
	// of its tar that the tree does not hold.
	treeDir   = "fs"
	layerFile = "layer.json"
	splitFile = "tar-split.json.gz"

	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
	overlayOpaque  = "trusted.overlay.opaque"
	xattrRecord    = "SCHILY.xattr."
)

// A layer is one that is unpacked.
type layer struct {
	Chain   digest.Digest `json:"chain"`
	DiffID  digest.Digest `json:"diffId"`
	Size    int64         `json:"size"`
	Entries int           `json:"entries"`
	// Tar is the size of the uncompressed layer in bytes.
	Tar      int64     `json:"tar"`
	Unpacked time.Time `json:"unpacked"`
}

// An unpacker puts one layer into a directory, in overlayfs' own format.
type unpacker struct {
	// tree is where it goes, parents are the trees below it, the nearest first.
	tree    string
	parents []string
	budget  *budget
	// entry is the one at hand, for errors.
	entry string
	// root is the header of the layer's own root, if there is one.
	root *tar.Header
	// links are the symlinks so far, whiteouts what was taken away.
	links     map[string]string
	whiteouts []string
	size      int64
	entries   int
	tar       int64
}

// unpack reads a layer to its end, keeps what the tree does not tell in split, and
// checks its digest.
func (u *unpacker) unpack(ctx context.Context, r io.Reader, want digest.Digest, split io.Writer) error {
	sum := want.Verifier()
	// Padding and headers are not counted, and have no other end.
	limit := u.budget.limits.Size + slack
	stream := &bounded{r, limit}
	err := u.apply(ctx, io.TeeReader(stream, sum), split)
	u.tar = limit - stream.left
	if err != nil {
		if u.entry == "" {
			return err
		}
		return fmt.Errorf("entry %.300q: %w", u.entry, err)
	}
	if !sum.Verified() {
		return errors.New("what it holds has another digest: the archive is damaged")
	}
	return u.finish()
}

// slack is how many bytes of a layer may be headers and padding.
const slack = 2 << 30

func (u *unpacker) apply(ctx context.Context, r io.Reader, split io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	z := gzip.NewWriter(split)
	tee, done, err := asm.NewInputTarStreamWithDone(r, storage.NewJSONPacker(z), putter{ctx, storage.NewDiscardFilePutter()})
	if err != nil {
		return err
	}
	_, err = tarball.Apply(ctx, u.tree, tee, tarball.WithFilter(u.accept),
		tarball.WithConvertWhiteout(u.convert), tarball.WithParents(u.parents))
	if err == nil {
		_, err = io.Copy(io.Discard, tee)
	}
	if err != nil {
		// Ends the other reader, wherever it is.
		cancel()
	}
	tee.Close()
	if ended := <-done; err == nil {
		err = ended
	}
	return errors.Join(err, z.Close())
}

// A putter sums up what is in a file of a layer, holes included: it has to be told
// when nobody wants to know any more.
type putter struct {
	ctx context.Context
	storage.FilePutter
}

func (p putter) Put(name string, r io.Reader) (int64, []byte, error) {
	return p.FilePutter.Put(name, contextReader{p.ctx, r})
}

type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// accept looks at an entry before it is made. Paths are resolved inside the tree
// whatever it says: it is here that a hostile one gets a readable end.
func (u *unpacker) accept(h *tar.Header) (bool, error) {
	u.entry = h.Name
	u.entries++
	size := int64(0)
	if h.Typeflag == tar.TypeReg {
		size = h.Size
	}
	u.size += size
	if err := u.budget.take(size, 1); err != nil {
		return false, err
	}
	if err := u.check(h); err != nil {
		return false, err
	}
	for name := range h.PAXRecords {
		attribute, ok := strings.CutPrefix(name, xattrRecord)
		if ok && attribute != "security.capability" && !strings.HasPrefix(attribute, "user.") {
			delete(h.PAXRecords, name)
		}
	}
	name := path.Clean("/" + h.Name)[1:]
	delete(u.links, name)
	if h.Typeflag == tar.TypeSymlink {
		u.links[name] = h.Linkname
	}
	if name == "" {
		u.root = h
		return false, nil
	}
	base := path.Base(name)
	return base == whiteoutOpaque || !strings.HasPrefix(base, whiteoutMeta), nil
}

func (u *unpacker) check(h *tar.Header) error {
	if len(h.Name) > maxPath || len(h.Linkname) > maxPath {
		return fmt.Errorf("its path has more than %d bytes", maxPath)
	}
	for part := range strings.SplitSeq(h.Name, "/") {
		if len(part) > maxNameLength {
			return fmt.Errorf("a part of its path has more than %d bytes", maxNameLength)
		}
	}
	if climbs(h.Name) {
		return errors.New("its path leads out of the layer")
	}
	if link := u.escape(h.Name); link != "" {
		return fmt.Errorf("it is below the symbolic link %.300q, which leads out of the layer", link)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeLink:
		if climbs(h.Linkname) {
			return fmt.Errorf("a hard link to %.300q leads out of the layer", h.Linkname)
		}
		if link := u.escape(h.Linkname); link != "" {
			return fmt.Errorf("a hard link below the symbolic link %.300q leads out of the layer", link)
		}
		return nil
	case tar.TypeBlock, tar.TypeChar:
		switch {
		case h.Devmajor == 0 && h.Devminor == 0:
			return errors.New("a device 0:0 would hide what is below it")
		case !u.budget.limits.Devices:
			return fmt.Errorf("a device node (%d:%d): say --devices if you trust the image", h.Devmajor, h.Devminor)
		}
		return nil
	}
	return fmt.Errorf("type %q is none that a layer may have", h.Typeflag)
}

// climbs tells whether a path leaves the directory that it begins in.
func climbs(name string) bool {
	name = path.Clean(strings.TrimLeft(name, "/"))
	return name == ".." || strings.HasPrefix(name, "../")
}

// escape names the symbolic link of the layer itself by which a path would leave
// it, if there is one.
func (u *unpacker) escape(name string) string {
	rest := strings.Split(path.Dir(path.Clean("/" + name)[1:]), "/")
	at := ""
	for hops := 0; len(rest) > 0; {
		at, rest = path.Join(at, rest[0]), rest[1:]
		target, ok := u.links[at]
		if !ok {
			continue
		}
		to := path.Join(path.Dir(at), target)
		if hops++; hops > 40 || path.IsAbs(target) || climbs(to) {
			return at
		}
		at, rest = "", append(strings.Split(to, "/"), rest...)
	}
	return ""
}

// convert makes an overlay's whiteouts out of a layer's.
func (u *unpacker) convert(h *tar.Header, file string) (bool, error) {
	dir, base := filepath.Split(file)
	if base == whiteoutOpaque {
		return false, unix.Setxattr(dir, overlayOpaque, []byte{'y'}, 0)
	}
	name, ok := strings.CutPrefix(base, whiteout)
	if !ok {
		return true, nil
	}
	if name == "" || name == "." || name == ".." {
		return false, errors.New("it hides no file")
	}
	file = filepath.Join(dir, name)
	u.whiteouts = append(u.whiteouts, file)
	if _, err := os.Lstat(file); err == nil {
		// What the layer itself has put there stays.
		return false, nil
	}
	return false, unix.Mknod(file, unix.S_IFCHR, 0)
}

// finish is for what can only be done once everything is there.
func (u *unpacker) finish() error {
	for _, file := range u.whiteouts {
		// A directory in the place of one that was taken away.
		if info, err := os.Lstat(file); err == nil && info.IsDir() {
			if err := unix.Setxattr(file, overlayOpaque, []byte{'y'}, 0); err != nil {
				return err
			}
		}
	}
	uid, gid, mode := 0, 0, os.FileMode(0o755)
	switch {
	case u.root != nil:
		uid, gid, mode = u.root.Uid, u.root.Gid, u.root.FileInfo().Mode()
	case len(u.parents) > 0:
		var stat unix.Stat_t
		if err := unix.Stat(u.parents[0], &stat); err != nil {
			return err
		}
		uid, gid, mode = int(stat.Uid), int(stat.Gid), os.FileMode(stat.Mode&0o777)
	}
	return errors.Join(os.Chown(u.tree, uid, gid), os.Chmod(u.tree, mode))
}

// bounded is a reader with an end.
type bounded struct {
	io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, errors.New("it is larger than an image may be")
	}
	return n, err
}
