package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Foreign is a network namespace that is not the container's alone, as it was before
// the VM came. Path names it, and UniqueID tells whether it still does.
type Foreign struct {
	Path     string `json:"path"`
	UniqueID string `json:"uniqueID"`
	// Ports is the range of the namespace's own sockets.
	Ports string `json:"ports"`
	// Taps are the VM's that comes.
	Taps []string `json:"taps"`
}

// Inspect describes the calling thread's namespace, which is the one at path, for a
// VM with these taps that has occupied it.
func Inspect(path string, taps []string) (Foreign, error) {
	here, err := netns.Get()
	if err != nil {
		return Foreign{}, err
	}
	defer here.Close()
	ports, err := os.ReadFile(portRange)
	return Foreign{path, here.UniqueId(), string(ports), taps}, err
}

// Release gives the namespace back to whom it belongs, if it is there: its interfaces
// hand nothing to the VM any more. Another VM that has come meanwhile keeps it.
func (f Foreign) Release() error {
	ns, err := netns.GetFromPath(f.Path)
	if err != nil {
		return nil
	}
	defer ns.Close()
	if ns.UniqueId() != f.UniqueID {
		return nil
	}
	if err := inside(ns, f.release); err != nil {
		return fmt.Errorf("network namespace %s: %w", f.Path, err)
	}
	return nil
}

func (f Foreign) release() (err error) {
	// They go with QEMU, but a process that ends looks gone before that.
	if err := removeTaps(f.Taps); err != nil {
		return err
	}
	leave, err := Occupy()
	if errors.Is(err, ErrOccupied) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if err := disconnect(link); err != nil {
			return fmt.Errorf("interface %s: %w", link.Attrs().Name, err)
		}
	}
	return os.WriteFile(portRange, []byte(f.Ports), 0)
}

func removeTaps(names []string) error {
	for _, name := range names {
		tap, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkDel(tap)
		}
		if err != nil && !changing(err) {
			return fmt.Errorf("tap %s: %w", name, err)
		}
	}
	return nil
}

func disconnect(link netlink.Link) error {
	filters, err := netlink.FilterList(link, ingressHandle)
	if err != nil {
		return fmt.Errorf("tc filters: %w", err)
	}
	for _, f := range filters {
		if f.Attrs().Priority == priority {
			return removeIngress(link)
		}
	}
	return nil
}

// inside calls f on a thread that is in the network namespace.
func inside(ns netns.NsHandle, f func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		if err := netns.Set(ns); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		done <- f()
	}()
	return <-done
}
