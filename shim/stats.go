package shim

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/protocol"
)

// statsTimeout is how long the guest has to tell its part; a paused one does not.
const statsTimeout = 10 * time.Second

// stats is the container as its engine would see it without a machine around: its
// memory and processes from the guest, its CPU time, block I/O and network from the
// host. A guest that does not answer leaves the host's figures, which are the whole
// machine's.
func (c *container) stats(ctx context.Context) (cgroup.Stats, error) {
	s, err := c.cgroup.Stats()
	if err != nil {
		return s, err
	}
	s.NetworkInterfaces = interfaces(c.plan.Machine.Taps)
	if c.state() == StatePaused {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	target := c.init()
	if r, err := c.guest.call(ctx, protocol.Request{Stats: &target}); err == nil && r.Stats != nil {
		addGuest(&s, *r.Stats)
	}
	return s, nil
}

// maxStat is how many lines of memory.stat a guest may have: a kernel has some
// fifty.
const maxStat = 200

// addGuest puts the guest's figures in the place of the host's, with the meanings
// that runc gives those of cgroup v2.
func addGuest(s *cgroup.Stats, g protocol.Stats) {
	m := g.Memory
	s.Memory = cgroup.Memory{
		Cache: m.Stat["file"],
		Usage: cgroup.MemoryEntry{Usage: m.Usage, Max: m.Peak, Limit: m.Limit},
		Swap:  cgroup.MemoryEntry{Usage: add(m.Usage, m.Swap), Limit: add(m.Limit, m.SwapLimit)},
		Raw:   map[string]uint64{},
		PSI:   s.Memory.PSI,
	}
	for _, name := range slices.Sorted(maps.Keys(m.Stat)) {
		if len(s.Memory.Raw) < maxStat {
			s.Memory.Raw[plain(name)] = m.Stat[name]
		}
	}
	s.Pids = cgroup.Pids{Current: g.Pids.Current, Limit: g.Pids.Limit}
	if g.Pids.Limit == math.MaxUint64 {
		// Which is how runc says that there is none.
		s.Pids.Limit = 0
	}
}

// add stays at the largest number.
func add(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// interfaces are those of the network namespace that stand for the container's.
func interfaces(taps []string) []cgroup.Interface {
	links, err := netlink.LinkList()
	if err != nil {
		return nil
	}
	var list []cgroup.Interface
	for _, link := range links {
		a := link.Attrs()
		if a.Statistics == nil || slices.Contains(taps, a.Name) {
			continue
		}
		n := a.Statistics
		list = append(list, cgroup.Interface{
			Name: a.Name, RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDropped: n.RxDropped,
			TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDropped: n.TxDropped,
		})
	}
	return list
}

// oomPause keeps a guest that reports one kill after the other from keeping the
// host busy.
const oomPause = 100 * time.Millisecond

// oomKills is the count of OOM kills in the guest, at once or as soon as there are
// more than seen, or a while has gone by.
func (c *container) oomKills(ctx context.Context, seen *uint64) (uint64, error) {
	if seen == nil {
		target := c.init()
		return oomCount(c.guest.ask(ctx, protocol.Request{Stats: &target}))
	}
	time.Sleep(oomPause)
	n, err := oomCount(c.guest.ask(ctx, protocol.Request{OOM: &protocol.OOM{Container: c.plan.ID, Seen: *seen}}))
	switch {
	case err == nil:
		return n, nil
	case c.lostToOOM():
		return *seen + 1, nil
	case c.state() == StatePaused:
		return *seen, nil
	}
	select {
	case <-c.guest.gone():
		// The shim is about to end, which tells the caller all.
		<-ctx.Done()
	default:
	}
	return 0, err
}

func oomCount(r protocol.Response, err error) (uint64, error) {
	if err == nil && r.Stats == nil {
		err = fmt.Errorf("%w: no count of OOM kills", errHostile)
	}
	if err != nil {
		return 0, err
	}
	return r.Stats.OOMKills, nil
}
