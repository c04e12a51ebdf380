package machine

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// An owner is known for ever: these tests look at each way in which a pid may
// come to mean somebody else.

func TestOwnerOfRealProcesses(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if got := self.Liveness(); got != Live {
		t.Errorf("own process is %v", got)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child, err := OwnerOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if got := child.Liveness(); got != Live {
		t.Errorf("running child is %v", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Not reaped yet: it becomes a zombie, which counts as dead.
	poll(t, "zombie counts as dead", func() bool { return child.Liveness() == Dead })
	_ = cmd.Wait() // reports the kill
	if got := child.Liveness(); got != Dead {
		t.Errorf("reaped child is %v", got)
	}
	if _, err := OwnerOf(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("owner of a dead pid: %v, want fs.ErrNotExist", err)
	}
}

func statLine(pid, comm, state string, start string) string {
	return pid + " (" + comm + ") " + state + " 1 1 1 0 -1 4194304 1 2 3 4 50 60 7 8 20 0 1 0 " + start + " 1000 20 18446744073709551615\n"
}

func TestOwnerLiveness(t *testing.T) {
	owner := Owner{PID: 42, StartTicks: 900, BootID: "boot-a", PIDNS: "pid:[1]"}
	tree := func(boot, ns, stat string) fs.FS {
		m := fstest.MapFS{
			"proc/sys/kernel/random/boot_id": {Data: []byte(boot + "\n")},
			"proc/self/ns/pid":               {Data: []byte(ns), Mode: fs.ModeSymlink | 0o777},
		}
		if stat != "" {
			m["proc/42/stat"] = &fstest.MapFile{Data: []byte(stat)}
		}
		return m
	}
	for _, c := range []struct {
		name string
		root fs.FS
		want Liveness
	}{
		{"runs", tree("boot-a", "pid:[1]", statLine("42", "nexus", "S", "900")), Live},
		{"odd name", tree("boot-a", "pid:[1]", statLine("42", "a) Z 1 (", "R", "900")), Live},
		{"gone", tree("boot-a", "pid:[1]", ""), Dead},
		{"pid in use again", tree("boot-a", "pid:[1]", statLine("42", "nexus", "S", "901")), Dead},
		{"zombie", tree("boot-a", "pid:[1]", statLine("42", "nexus", "Z", "900")), Dead},
		{"before a reboot", tree("boot-b", "pid:[1]", statLine("42", "nexus", "S", "900")), Dead},
		{"another pid namespace", tree("boot-a", "pid:[2]", ""), Unknown},
		{"unreadable stat", tree("boot-a", "pid:[1]", "42 (nexus"), Unknown},
		{"no proc", fstest.MapFS{}, Unknown},
	} {
		if got := owner.liveness(c.root); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := (Owner{}).liveness(tree("boot-a", "pid:[1]", "")); got != Unknown {
		t.Errorf("empty owner: %v, want unknown", got)
	}
}

func TestOwnerFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadOwner(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of none: %v, want fs.ErrNotExist", err)
	}
	if err := WriteOwner(dir); err != nil {
		t.Fatal(err)
	}
	got, err := ReadOwner(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := Self(); got != want {
		t.Errorf("read %+v, wrote %+v", got, want)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v (%v), want the owner file alone", entries, err)
	}
	if err := os.WriteFile(filepath.Join(dir, OwnerFile), []byte(`{"pid":1`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadOwner(dir); err == nil {
		t.Error("a torn owner file was read")
	}
}

func FuzzParseOwner(f *testing.F) {
	f.Add([]byte(`{"pid":7,"start_ticks":9,"boot_id":"b","pid_ns":"pid:[1]"}`))
	f.Add([]byte(`{"pid":-7}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		owner, err := parseOwner(data)
		if err != nil {
			return
		}
		if owner.PID <= 0 || owner.BootID == "" || owner.PIDNS == "" {
			t.Fatalf("accepted %+v", owner)
		}
		again, err := json.Marshal(owner)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := parseOwner(again); err != nil || second != owner {
			t.Fatalf("%+v came back as %+v (%v)", owner, second, err)
		}
	})
}

func FuzzParseProcStat(f *testing.F) {
	f.Add(statLine("42", "nexus", "S", "900"))
	f.Add("1 (a b) ) R 0")
	f.Fuzz(func(t *testing.T, line string) {
		stat, err := parseProcStat(line)
		if err == nil && stat.state == 0 {
			t.Fatalf("%q has no state", line)
		}
	})
}

func TestParseProcStat(t *testing.T) {
	stat, err := parseProcStat(statLine("42", "x", "R", "77"))
	if err != nil {
		t.Fatal(err)
	}
	want := procStat{state: 'R', parent: 1, userTicks: 50, sysTicks: 60, startTicks: 77}
	if stat != want {
		t.Errorf("got %+v, want %+v", stat, want)
	}
	for _, bad := range []string{"", "42", "42 (x) R", strings.Replace(statLine("42", "x", "R", "77"), "77", "-1", 1), strings.Replace(statLine("42", "x", "R", "77"), " 1 1 1", " x 1 1", 1)} {
		if _, err := parseProcStat(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
