package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// finalize turns the stage into the container's user and gives what to execute.
// The order is runc's (finalizeNamespace and its callers).
func (s *stage) finalize() (name string, env []string, err error) {
	p := s.Process
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, defaultSlack, 0, 0, 0); err != nil {
		return "", nil, fmt.Errorf("prctl(PR_SET_TIMERSLACK): %w", err)
	}
	if p.User.Umask != nil {
		unix.Umask(int(*p.User.Umask))
	} else {
		unix.Umask(0o022)
	}
	if err := setRlimits(p.Rlimits); err != nil {
		return "", nil, err
	}
	if err := setScheduling(p); err != nil {
		return "", nil, err
	}
	if err := setPersonality(s.Personality); err != nil {
		return "", nil, err
	}
	if s.Exec {
		if err := setAffinity(p.ExecCPUAffinity); err != nil {
			return "", nil, err
		}
	}
	later, err := enterCwd(p.Cwd)
	if err != nil {
		return "", nil, err
	}
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return "", nil, fmt.Errorf("process.noNewPrivileges: %w", err)
		}
	} else if err := s.loadSeccomp(); err != nil {
		// Without no_new_privs a filter takes CAP_SYS_ADMIN, which is about to go.
		return "", nil, err
	}
	if env, err = s.become(later); err != nil {
		return "", nil, err
	}
	if name, err = exec.LookPath(p.Args[0]); err != nil {
		return "", nil, err
	}
	if p.NoNewPrivileges {
		err = s.loadSeccomp()
	}
	return name, env, err
}

// become changes user and capabilities, and enters the working directory where that
// is left to do.
func (s *stage) become(later bool) ([]string, error) {
	p := s.Process
	env, err := prepareEnv(p.Env)
	if err != nil {
		return nil, err
	}
	// The look-up of the program goes by it.
	if err := os.Setenv("PATH", variable(env, "PATH")); err != nil {
		return nil, err
	}
	if variable(env, "HOME") == "" {
		env = append(env, "HOME="+userHome("/etc/passwd", int(p.User.UID)))
	}
	drop, err := newCapabilities(p.Capabilities)
	if err != nil {
		return nil, err
	}
	if err := drop.bound(); err != nil {
		return nil, err
	}
	if err := setUser(p.User.UID, p.User.GID, p.User.AdditionalGids); err != nil {
		return nil, err
	}
	if later {
		if err := unix.Chdir(p.Cwd); err != nil {
			return nil, cwdError(p.Cwd, err)
		}
		if err := checkCwd(); err != nil {
			return nil, err
		}
	}
	return env, drop.apply()
}

// enterCwd changes to the working directory before the user changes, who may
// not be allowed to; or says that only the user may be. Its check comes before
// seccomp's filter, which may forbid getcwd(2).
func enterCwd(cwd string) (later bool, err error) {
	if cwd != "" {
		err = unix.Chdir(cwd)
	}
	if errors.Is(err, fs.ErrPermission) {
		return true, nil
	}
	if err != nil {
		return false, cwdError(cwd, err)
	}
	return false, checkCwd()
}

func cwdError(cwd string, err error) error {
	return fmt.Errorf("chdir to cwd (%q) set in config.json failed: %w", cwd, err)
}

// checkCwd makes sure that the working directory is inside the container
// (CVE-2024-21626).
func checkCwd() error {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buffer)
	if err != nil {
		return fmt.Errorf("current working directory is outside of container mount namespace root: %w", err)
	}
	if cwd := unix.ByteSliceToString(buffer[:n]); !filepath.IsAbs(cwd) {
		return fmt.Errorf("current working directory %q is outside of container mount namespace root", cwd)
	}
	return nil
}

// setUser changes the user of this thread, keeping its capabilities. The
// standard descriptors become the user's first, so that it can open them again
// by /dev/stdout and the like.
func setUser(uid, gid uint32, groups []uint32) error {
	if err := giveStdio([]int{0, 1, 2}, int(uid)); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl(PR_SET_KEEPCAPS): %w", err)
	}
	// The calls of package syscall would change all threads, among which some
	// cannot any more.
	var list *uint32
	if len(groups) > 0 {
		list = &groups[0]
	}
	if err := setGroups(len(groups), list); err != nil {
		return fmt.Errorf("process.user.additionalGids: setgroups: %w", err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGID, uintptr(gid), 0, 0); errno != 0 {
		return fmt.Errorf("process.user.gid: setgid %d: %w", gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETUID, uintptr(uid), 0, 0); errno != 0 {
		return fmt.Errorf("process.user.uid: setuid %d: %w", uid, errno)
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl(PR_SET_KEEPCAPS): %w", err)
	}
	return nil
}

// giveStdio makes the user the owner of its standard descriptors. It is a best
// effort where their file system allows none of that.
func giveStdio(fds []int, uid int) error {
	for _, fd := range fds {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
		if int(stat.Uid) == uid || isDevNull(&stat) {
			continue
		}
		err := unix.Fchown(fd, uid, -1)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EROFS) {
			return fmt.Errorf("owner of descriptor %d: %w", fd, err)
		}
	}
	return nil
}

func isDevNull(stat *unix.Stat_t) bool {
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == unix.Mkdev(1, 3)
}

// prepareEnv checks the environment and drops all but the last of each name, and an
// empty HOME, which comes from the container's /etc/passwd then. So does runc.
func prepareEnv(env []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, variable := range slices.Backward(env) {
		name, value, found := strings.Cut(variable, "=")
		switch {
		case !found:
			return nil, errors.New("process.env: invalid environment variable: missing '='")
		case name == "":
			return nil, errors.New("process.env: invalid environment variable: name cannot be empty")
		case strings.ContainsRune(variable, 0):
			return nil, fmt.Errorf("process.env: invalid environment variable %q: contains nul byte (\\x00)", name)
		case seen[name]:
			continue
		}
		seen[name] = true
		if name == "HOME" && value == "" {
			// As if it were not there: the last one of a name counts.
			continue
		}
		out = append(out, variable)
	}
	slices.Reverse(out)
	return out, nil
}

// variable is the value of an environment's variable, empty without.
func variable(env []string, name string) string {
	for _, v := range env {
		if value, found := strings.CutPrefix(v, name+"="); found {
			return value
		}
	}
	return ""
}

// userHome is the user's home directory according to passwd(5), "/" without.
func userHome(passwd string, uid int) string {
	// It may be anything, and a pipe would hold the stage up.
	file, err := os.OpenFile(passwd, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "/"
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return "/"
	}
	return homeOf(io.LimitReader(file, maxPasswd), uid)
}

func homeOf(passwd io.Reader, uid int) string {
	lines := bufio.NewScanner(passwd)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) >= 6 && fields[2] == strconv.Itoa(uid) {
			return fields[5]
		}
	}
	return "/"
}
