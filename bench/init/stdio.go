package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// chunk is what virtio_console takes at once.
const chunk = 32 << 10

// serve answers the host's commands until it goes: one byte, 'e' for echo or 'o'
// for output, and the number of bytes in eight more.
func serve(port *os.File) error {
	for {
		var command [9]byte
		if _, err := io.ReadFull(port, command[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		size := int64(binary.BigEndian.Uint64(command[1:]))
		var err error
		switch command[0] {
		case 'e':
			err = echo(port, size)
		case 'o':
			err = output(port, size)
		default:
			err = fmt.Errorf("there is no command %q", command[0])
		}
		if err != nil {
			return err
		}
	}
}

// echo passes what arrives back through a pipe.
func echo(port *os.File, size int64) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	fed := make(chan error, 1)
	go func() {
		err := pass(in, port, size)
		fed <- errors.Join(err, in.Close())
	}()
	return errors.Join(pass(port, out, size), <-fed)
}

// output passes on what a writer puts into a pipe.
func output(port *os.File, size int64) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	fed := make(chan error, 1)
	go func() {
		var err error
		buffer := make([]byte, chunk)
		for left := size; left > 0 && err == nil; {
			var n int
			n, err = in.Write(buffer[:min(left, chunk)])
			left -= int64(n)
		}
		fed <- errors.Join(err, in.Close())
	}()
	return errors.Join(pass(port, out, size), <-fed)
}

// pass copies size bytes, read by read.
func pass(to, from *os.File, size int64) error {
	buffer := make([]byte, chunk)
	for size > 0 {
		n, err := from.Read(buffer[:min(size, chunk)])
		if err != nil {
			return err
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}
