package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// streamed is how much passes in one turn, in bytes: enough that it does not matter
// what a clone's machine has to translate first.
const streamed = 128 << 20

// piece is the size in bytes of one read or write outside of the machines.
const piece = 64 << 10

const rawCopy = "raw copy"

// measureStdio measures how fast bytes pass through a container's cat, and come out of a
// container, against a bare machine with the same virtio-serial device whose PID 1
// copies between the port and the pipes of the same program, while we copy between the
// device and pipes outside. The clock starts with the first byte that has come out.
func measureStdio(ctx context.Context, l *lab) ([]Figure, error) {
	ratios := []Ratio{{"vmruntime", rawCopy, Aim{AtLeast: 0.6}}, {"vmruntime", "runc", Aim{}}}
	figures := []Figure{
		{Name: "in and out", Unit: "MiB/s", Ratios: ratios},
		{Name: "out", Unit: "MiB/s", Ratios: ratios},
	}
	warmly, err := l.warm(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := l.rawCopy(ctx, warmly)
	if err != nil {
		return nil, err
	}
	cat, err := l.bundle([]string{"cat"})
	if err != nil {
		return nil, err
	}
	source, err := l.bundle([]string{"sh", "-c", fmt.Sprintf("read line; exec head -c %d /dev/zero", streamed)})
	if err != nil {
		return nil, err
	}
	contenders := []contender{raw}
	for _, p := range []program{warmly, l.reference("runc")} {
		contenders = append(contenders, contender{p.name, func(ctx context.Context) ([]float64, error) {
			in, err := l.stream(ctx, p, cat, true)
			if err != nil {
				return nil, err
			}
			out, err := l.stream(ctx, p, source, false)
			return []float64{in, out}, err
		}})
	}
	return takeTurns(ctx, l.rounds, figures, contenders)
}

// stream measures a new container's throughput.
func (l *lab) stream(ctx context.Context, p program, bundle string, feed bool) (float64, error) {
	c, err := l.start(ctx, p, bundle)
	if err != nil {
		return 0, err
	}
	rate, err := throughput(c.stdout, c.stdin, feed)
	if err != nil {
		return 0, err
	}
	return rate, c.discard()
}

// throughput has the process write its first byte and takes the time of the others.
func throughput(from io.Reader, to io.Writer, feed bool) (float64, error) {
	if _, err := to.Write([]byte("\n")); err != nil {
		return 0, err
	}
	if _, err := io.CopyN(io.Discard, from, 1); err != nil {
		return 0, err
	}
	const rest = streamed - 1
	fed := make(chan error, 1)
	begin := time.Now()
	go func() {
		var err error
		if feed {
			_, err = io.CopyBuffer(struct{ io.Writer }{to}, io.LimitReader(zeros{}, rest), make([]byte, piece))
		}
		fed <- err
	}()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(from, rest), make([]byte, piece))
	if n < rest {
		return 0, fmt.Errorf("%d of %d bytes arrived: %w", n, rest, errors.Join(err, io.ErrUnexpectedEOF))
	}
	took := time.Since(begin)
	return rest / took.Seconds() / (1 << 20), <-fed
}

// rawCopy is a bare machine that stays for all turns.
func (l *lab) rawCopy(ctx context.Context, p program) (contender, error) {
	m, err := l.sharing(ctx, p)
	if err != nil {
		return contender{}, err
	}
	conn, err := l.bareJob(ctx, m.machine, "stdio", m.options, m.share)
	if err != nil {
		return contender{}, err
	}
	return contender{rawCopy, func(ctx context.Context) ([]float64, error) {
		// The machine stays for the next turn, unless this one hangs.
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		in, err := rawStream(conn, 'e')
		if err != nil {
			return nil, err
		}
		out, err := rawStream(conn, 'o')
		return []float64{in, out}, err
	}}, nil
}

// rawStream asks the bare machine for one transfer; see bench/init.
func rawStream(conn net.Conn, command byte) (float64, error) {
	if _, err := conn.Write(binary.BigEndian.AppendUint64([]byte{command}, streamed)); err != nil {
		return 0, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer out.Close()
	go func() {
		defer theirOut.Close()
		_ = copyRaw(theirOut, conn)
	}()
	if command == 'o' {
		return throughput(out, io.Discard, false)
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	go func() {
		defer theirIn.Close()
		_ = copyRaw(conn, theirIn)
	}()
	return throughput(out, in, true)
}

// copyRaw copies what is streamed with read(2) and write(2).
func copyRaw(to io.Writer, from io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, io.LimitReader(from, streamed), make([]byte, piece))
	return err
}

// bareJob boots a bare machine whose PID 1 is bench/init and gives the other end of
// its port. The machine ends with the lab.
func (l *lab) bareJob(ctx context.Context, m machine, job, options string, devices []string) (net.Conn, error) {
	image, err := l.guest()
	if err != nil {
		return nil, err
	}
	channel := m.device("virtio-serial-pci")
	if channel == "" {
		return nil, fmt.Errorf("the container's machine has no channel: %q", m)
	}
	id := l.newID()
	initramfs := filepath.Join(l.dir, id+".initramfs")
	if err := replaceInit(initramfs, image.Initramfs, filepath.Join(l.share(), "init")); err != nil {
		return nil, err
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(l.dir, id+".sock"), Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	words := []string{"bench_job=" + job}
	if options != "" {
		words = append(words, "bench_options="+options)
	}
	cmd := m.bare(ctx, image.Kernel, initramfs, words, append(slices.Concat(m.globals(), devices),
		"-device", channel, "-chardev", "socket,id=port,path="+socket.Addr().String(),
		"-device", `{"driver":"virtserialport","chardev":"port"}`)...)
	if err := launch(cmd, l.bare); err != nil {
		return nil, err
	}
	l.later(func() error {
		// It ends by the signal, if it has not ended before.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil
	})
	// QEMU connects before the guest boots, or has failed.
	if err := socket.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	conn, err := socket.Accept()
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn, nil
}
