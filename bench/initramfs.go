package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cavaliergopher/cpio"
)

// replaceInit writes to path what is in the guest's initramfs, with another
// program as PID 1: the modules are the same.
func replaceInit(path, guest, program string) (err error) {
	init, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	from, err := os.Open(guest)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := copyArchive(cpio.NewWriter(to), cpio.NewReader(from), init); err != nil {
		return fmt.Errorf("initramfs %s: %w", guest, err)
	}
	return nil
}

func copyArchive(to *cpio.Writer, from *cpio.Reader, init []byte) error {
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			return to.Close()
		}
		if err != nil {
			return err
		}
		body := io.Reader(from)
		if header.Name == "init" {
			header.Size, body = int64(len(init)), bytes.NewReader(init)
		}
		if err := to.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(to, body); err != nil {
			return err
		}
	}
}
