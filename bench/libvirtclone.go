package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/driver"
)

const (
	// libvirtWord has the program be the one that clones through libvirt alone.
	libvirtWord = "libvirt-clone"
	// doneWord is what that says when the container's process has ended.
	doneWord = "done\n"
)

// libvirt is the clone that a program makes through libvirt's embedded driver and
// nothing else of ours: this program, under another word. What it does after the
// end of the container's process is not counted.
func (u *unaided) libvirt(ctx context.Context) (took time.Duration, err error) {
	plan, err := json.Marshal(u)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, self, libvirtWord, string(plan))
	cmd.Stderr = os.Stderr
	// Killed, it would leave QEMU behind.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	output, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := launch(cmd, u.group); err != nil {
		return 0, err
	}
	word, err := bufio.NewReader(output).ReadString('\n')
	took = time.Since(begin)
	if err == nil && word != doneWord {
		err = fmt.Errorf("%q instead of %q", word, doneWord)
	}
	return took, errors.Join(err, cmd.Wait())
}

// libvirtClone is that program's main function.
func libvirtClone(plan string) (err error) {
	var u unaided
	if err := json.Unmarshal([]byte(plan), &u); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	state, err := os.Open(u.State)
	if err != nil {
		return err
	}
	defer state.Close()
	sockets, err := u.listen()
	if err != nil {
		return err
	}
	defer sockets.close()
	m, err := driver.Boot(vm.URIEmbed, u.Dir, u.Config)
	if err != nil {
		return err
	}
	// The driver has made us the one that QEMU is left to. libvirt waits long for
	// the end of one that nobody reaps.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = unix.Wait4(m.PID(), nil, 0, nil)
	}()
	defer func() {
		err = errors.Join(err, m.Destroy())
		<-ended
	}()
	if err := m.Load(ctx, state); err != nil {
		return err
	}
	conn, err := sockets.agent.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := converse(ctx, conn, u.Container); err != nil {
		return err
	}
	_, err = fmt.Print(doneWord)
	return err
}

// withoutWrapper has libvirt start QEMU itself.
func withoutWrapper(c vm.Config) (vm.Config, error) {
	qemu, err := exec.LookPath(vm.QEMU)
	if err != nil {
		return c, err
	}
	c.Emulator, err = filepath.EvalSymlinks(qemu)
	return c, err
}
