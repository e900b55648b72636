package image

import (
	"context"
	"io"
	"os"
)

// A source is an archive that can be read at any place.
type source interface {
	io.ReaderAt
	Size() int64
	// Stream reads n bytes from off on, in one go.
	Stream(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

type fileSource struct {
	*os.File
	size int64
}

func (f fileSource) Size() int64 { return f.size }

func (f fileSource) Stream(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(f.File, off, n)), nil
}
