package runtime

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What a field that takes one of a few words may be, besides being left out.
var (
	propagations  = strings.Fields("private rprivate slave rslave shared rshared unbindable runbindable")
	ioClasses     = []specs.IOPriorityClass{specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE}
	schedPolicies = []specs.LinuxSchedulerPolicy{
		specs.SchedOther, specs.SchedFIFO, specs.SchedRR, specs.SchedBatch, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline,
	}
	schedFlags = []specs.LinuxSchedulerFlag{
		specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy,
		specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax,
	}
	pageSize = regexp.MustCompile(`^[1-9][0-9]*[KMG]B$`)
)

// checkValues refuses words that no field knows, before there is a machine.
func checkValues(s *specs.Spec) error {
	if err := checkScheduling(s.Process); err != nil {
		return fmt.Errorf("process.%w", err)
	}
	if s.Linux == nil {
		return nil
	}
	if p := s.Linux.RootfsPropagation; p != "" {
		if err := oneOf("linux.rootfsPropagation", p, propagations); err != nil {
			return err
		}
	}
	if s.Linux.Resources == nil {
		return nil
	}
	for i, limit := range s.Linux.Resources.HugepageLimits {
		if !pageSize.MatchString(limit.Pagesize) {
			return fmt.Errorf("linux.resources.hugepageLimits[%d].pageSize: %q must be a size such as 2MB or 1GB", i, limit.Pagesize)
		}
	}
	return nil
}

// checkScheduling looks at a process of a container, the first or a further one.
// Its errors begin with the name of a field below process.
func checkScheduling(p *specs.Process) error {
	if p.IOPriority != nil {
		if err := oneOf("ioPriority.class", p.IOPriority.Class, ioClasses); err != nil {
			return err
		}
	}
	if p.Scheduler == nil {
		return nil
	}
	if err := oneOf("scheduler.policy", p.Scheduler.Policy, schedPolicies); err != nil {
		return err
	}
	for i, flag := range p.Scheduler.Flags {
		if err := oneOf(fmt.Sprintf("scheduler.flags[%d]", i), flag, schedFlags); err != nil {
			return err
		}
	}
	return nil
}

func oneOf[T ~string](name string, value T, known []T) error {
	if slices.Contains(known, value) {
		return nil
	}
	return fmt.Errorf("%s: %q must be one of %q", name, value, known)
}
