package machine

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLeftoverNames(t *testing.T) {
	name := LeftoverName()
	if pid, ours := LeftoverPID(name); !ours || pid != os.Getpid() || LeftoverName() == name {
		t.Errorf("%q: pid %d, ours %v", name, pid, ours)
	}
	for _, other := range []string{"", "nexus", "nexus-", "nexus-12", "nexus--1-2", "nexus-x-1", "other-12-1", "nexus-0-1"} {
		if pid, ours := LeftoverPID(other); ours {
			t.Errorf("%q was taken for a leftover of %d", other, pid)
		}
	}
}

// A child born into a cgroup is counted there, killed with it, and the cgroup
// goes away for good.
func TestCgroup(t *testing.T) {
	group, err := NewCgroup()
	if errors.Is(err, ErrNoCgroup2) || errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		t.Skipf("cgroup2 can't be used here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer group.Remove()
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo x; exec sleep 100")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: group.FD()}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("/proc", "self", "cgroup"))
	if err != nil || strings.Contains(string(text), filepath.Base(group.Path)) {
		t.Errorf("the runner itself is in the cgroup (%v)", err)
	}
	user, system, err := group.CPUTime()
	if err != nil || user+system <= 0 {
		t.Errorf("CPU time %v + %v, %v", user, system, err)
	}
	total, err := CgroupCPUNs(group.Path)
	if err != nil || total < (user+system).Nanoseconds()*9/10 {
		t.Errorf("usage %d ns is less than user and system %v (%v)", total, user+system, err)
	}
	if empty, err := group.Empty(); err != nil || empty {
		t.Errorf("empty %v with a live child (%v)", empty, err)
	}
	if group.ID == 0 {
		t.Error("the cgroup has no id")
	}
	if err := group.Kill(); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the child ended with %v", err)
	}
	for range 2 {
		if err := group.Remove(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(group.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
}

func TestNewTempRoot(t *testing.T) {
	dir, err := NewTempRoot()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if pid, ours := LeftoverPID(filepath.Base(dir)); !ours || pid != os.Getpid() {
		t.Errorf("%s does not bear our pid", dir)
	}
	owner, err := ReadOwner(dir)
	if err != nil || owner.Liveness() != Live {
		t.Errorf("owner %+v: %v", owner, err)
	}
	if memory, err := inMemory(dir); err != nil || memory {
		t.Errorf("%s lies in memory (%v)", dir, err)
	}
}
