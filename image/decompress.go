package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// A plain is a layer's tar out of its blob.
type plain struct {
	io.Reader
	blob   *bufio.Reader
	raw    io.Closer
	zstd   *zstd.Decoder
	digest digest.Verifier
	want   digest.Digest
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// maxWindow is how much memory in bytes a zstd layer may ask for.
const maxWindow = 128 << 20

// decompress tells by its first bytes how a blob is compressed. want may be empty.
func decompress(raw io.ReadCloser, want digest.Digest) (io.ReadCloser, error) {
	p := &plain{raw: raw, want: want}
	r := io.Reader(raw)
	if want != "" {
		p.digest = want.Verifier()
		r = io.TeeReader(raw, p.digest)
	}
	p.blob = bufio.NewReaderSize(r, 64<<10)
	p.Reader = p.blob
	magic, err := p.blob.Peek(len(zstdMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		p.Reader, err = gzip.NewReader(p.blob)
	case bytes.Equal(magic, zstdMagic):
		p.zstd, err = zstd.NewReader(p.blob, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		p.Reader = p.zstd
	default:
		err = nil
	}
	return p, err
}

// Read checks the blob once all of it was read.
func (p *plain) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if !errors.Is(err, io.EOF) || p.digest == nil {
		return n, err
	}
	if _, err := io.Copy(io.Discard, p.blob); err != nil {
		return n, err
	}
	if !p.digest.Verified() {
		return n, fmt.Errorf("the blob is not %s: the archive is damaged", p.want)
	}
	return n, err
}

func (p *plain) Close() error {
	if p.zstd != nil {
		p.zstd.Close()
	}
	return p.raw.Close()
}
