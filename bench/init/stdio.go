package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// chunk is what virtio_console takes at once.
const chunk = 32 << 10

// stdio answers the host's commands until it goes: one byte, 'e' for echo or 'o'
// for output, and the number of bytes in eight more. The programs are those of the
// root filesystem, which is mounted with these options.
func stdio(port *os.File, options string) error {
	if err := mountRoot(options); err != nil {
		return err
	}
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

// echo passes what arrives through a cat, with a pipe at each of its ends.
func echo(port *os.File, size int64) error {
	theirs, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cat, out, err := piped(theirs, "/bin/cat")
	if err != nil {
		return errors.Join(err, in.Close())
	}
	defer out.Close()
	fed := make(chan error, 1)
	go func() {
		err := pass(in, port, size)
		fed <- errors.Join(err, in.Close())
	}()
	return errors.Join(pass(port, out, size), <-fed, cat.Wait())
}

// output passes on what a program writes into a pipe.
func output(port *os.File, size int64) error {
	head, out, err := piped(nil, "/usr/bin/head", "-c", fmt.Sprint(size), "/dev/zero")
	if err != nil {
		return err
	}
	defer out.Close()
	return errors.Join(pass(port, out, size), head.Wait())
}

// piped starts a program of the root filesystem that writes to a pipe. It takes over
// the program's input.
func piped(stdin *os.File, line ...string) (*exec.Cmd, *os.File, error) {
	defer stdin.Close()
	out, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(line[0], line[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.Stdout, cmd.Stderr = theirs, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, errors.Join(err, out.Close())
	}
	return cmd, out, nil
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
