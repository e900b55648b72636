// Package cpulist reads lists of CPUs and of memory nodes: the list format of
// cpuset(7), such as 0-2,7, without strides.
package cpulist

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A List is ascending, and its ranges neither meet nor touch.
type List []Range

// A Range has both its ends in it.
type Range struct{ First, Last uint64 }

// Parse reads a list, which has a member at least.
func Parse(text string) (List, error) {
	var ranges List
	for part := range strings.SplitSeq(text, ",") {
		r, err := parseRange(part)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, r)
	}
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	return merge(ranges), nil
}

func parseRange(text string) (Range, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	// One bit less: the number of members is a uint64, too.
	a, errA := strconv.ParseUint(first, 10, 63)
	b, errB := strconv.ParseUint(last, 10, 63)
	if errA != nil || errB != nil || b < a {
		return Range{}, fmt.Errorf("%q is no range such as 0-2, and no number", text)
	}
	return Range{a, b}, nil
}

// merge joins ranges that meet or touch.
func merge(ascending List) List {
	var l List
	for _, r := range ascending {
		if n := len(l); n > 0 && r.First <= l[n-1].Last+1 {
			l[n-1].Last = max(l[n-1].Last, r.Last)
		} else {
			l = append(l, r)
		}
	}
	return l
}

// Count is the number of members.
func (l List) Count() uint64 {
	var n uint64
	for _, r := range l {
		n += r.Last - r.First + 1
	}
	return n
}

// Within tells whether all members are in another list, too.
func (l List) Within(all List) bool {
	return !slices.ContainsFunc(l, func(r Range) bool {
		return !slices.ContainsFunc(all, func(a Range) bool { return a.First <= r.First && r.Last <= a.Last })
	})
}
