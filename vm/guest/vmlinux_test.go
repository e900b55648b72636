package guest

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

var pvhNotes = append(note("Linu", 1, "abcd"), note("Xen\x00", 18, "\x00\x00\x00\x01\x00\x00\x00\x00")...)

// bzImage wraps a payload as the kernel's build does.
func bzImage(payload []byte) []byte {
	const sectors, offset = 3, 100
	image := make([]byte, (sectors+1)*512+offset)
	image[setupSects] = sectors
	copy(image[setupMagic:], "HdrS")
	binary.LittleEndian.PutUint16(image[setupVersion:], 0x20f)
	binary.LittleEndian.PutUint32(image[payloadOffset:], offset)
	binary.LittleEndian.PutUint32(image[payloadLength:], uint32(len(payload)))
	return append(append(image, payload...), "the rest of the bzImage"...)
}

// sized appends the unpacked size, as the kernel's build does.
func sized(packed []byte, size int) []byte {
	return binary.LittleEndian.AppendUint32(packed, uint32(size))
}

func TestExtractKernel(t *testing.T) {
	kernel := elfFile(elf.ET_EXEC, pvhNotes, "")
	data := append(bytes.Clone(kernel), bytes.Repeat([]byte("relocations"), 10000)...)
	packers := map[string]func(*testing.T, []byte) []byte{
		"gzip": func(t *testing.T, data []byte) []byte {
			return pack(t, data, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
		},
		"zstd": func(t *testing.T, data []byte) []byte {
			return sized(pack(t, data, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }), len(data))
		},
		"lz4": func(t *testing.T, data []byte) []byte {
			return sized(pack(t, data, func(w io.Writer) (io.WriteCloser, error) {
				z := lz4.NewWriter(w)
				err := z.Apply(lz4.LegacyOption(true))
				return z, err
			}), len(data))
		},
		"xz with x86 filter": func(t *testing.T, data []byte) []byte {
			return sized(tool(t, data, "xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB"), len(data))
		},
		"bzip2": func(t *testing.T, data []byte) []byte { return sized(tool(t, data, "bzip2"), len(data)) },
	}
	for name, packer := range packers {
		t.Run(name, func(t *testing.T) {
			got, err := extractKernel(bzImage(packer(t, data)))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, kernel) {
				t.Errorf("got %d bytes, want the %d of the ELF file", len(got), len(kernel))
			}
		})
	}
	t.Run("uncompressed", func(t *testing.T) {
		if got, err := extractKernel(data); err != nil || !bytes.Equal(got, kernel) {
			t.Errorf("got %d bytes, error %v", len(got), err)
		}
	})
}

func pack(t *testing.T, data []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := open(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func tool(t *testing.T, data []byte, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(name, append(args, "--stdout")...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return out
}

func TestExtractKernelRefuses(t *testing.T) {
	kernel := elfFile(elf.ET_EXEC, pvhNotes, "")
	other := bytes.Clone(kernel)
	binary.LittleEndian.PutUint16(other[18:], uint16(elf.EM_AARCH64))
	old := bzImage(kernel)
	binary.LittleEndian.PutUint16(old[setupVersion:], 0x207)
	packed := pack(t, kernel, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	tests := map[string]struct {
		image []byte
		want  string
	}{
		"empty":          {nil, "neither an x86 bzImage nor an ELF file"},
		"not a kernel":   {make([]byte, 4096), "neither an x86 bzImage nor an ELF file"},
		"old protocol":   {old, "boot protocol 0x207 is older than 2.08"},
		"truncated":      {bzImage(kernel)[:2200], "bzImage is truncated"},
		"half a payload": {bzImage(packed[:len(packed)/2]), "kernel payload: unexpected EOF"},
		"lzma":           {bzImage([]byte("\x5d\x00\x00\x00")), "unknown compression, it begins with 5d 00 00 00"},
		"no PVH":         {bzImage(elfFile(elf.ET_EXEC, note("Xen\x00", 6, "linu"), "")), "no PVH entry"},
		"broken notes":   {elfFile(elf.ET_EXEC, pvhNotes[:30], ""), "no PVH entry"},
		"other machine":  {other, "kernel is for EM_AARCH64"},
		"half an ELF":    {kernel[:100], "kernel: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := extractKernel(test.image)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func FuzzExtractKernel(f *testing.F) {
	kernel := elfFile(elf.ET_EXEC, pvhNotes, "")
	f.Add(kernel)
	f.Add(bzImage(kernel))
	f.Fuzz(func(_ *testing.T, image []byte) {
		_, _ = extractKernel(image) // it must not panic
	})
}
