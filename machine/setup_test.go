package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

// The package manager here is a script that records how it is called and puts
// files where a package would; everything else is what runs for real.

const aptScript = `#!/bin/sh
root=%[1]q
echo "$(basename "$0") $*" >> "$root/calls"
case "$0 $*" in
*sudo*) shift; shift; shift; exec "$root/usr/bin/$@" ;;
*" update") [ -e "$root/offline" ] && { echo "W: Failed to fetch: Temporary failure resolving 'deb.example'"; exit 0; }
  mkdir -p "$root/var/lib/apt/lists"; : > "$root/var/lib/apt/lists/x_Packages"; exit 0 ;;
*--configure*) rm -f "$root"/var/lib/dpkg/updates/*; exit 0 ;;
*install*)
  [ -e "$root/offline" ] && { echo "E: Failed to fetch http://deb.example/p.deb  Could not connect to deb.example:80"; exit 100; }
  [ -e "$root/locked" ] && { echo "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7"; exit 100; }
  [ -e "$root/unknown" ] && { rm "$root/unknown"; echo "E: Unable to locate package wrk"; exit 100; }
  if [ -e "$root/slow" ]; then : > "$root/var/lib/dpkg/updates/0001"; echo under way; exec sleep 1000; fi
  [ -e "$root/empty-handed" ] && exit 0
  for p in "$@"; do case $p in fio|wrk) printf '#!/bin/sh\n' > "$root/usr/bin/$p"; chmod 755 "$root/usr/bin/$p" ;; esac; done; exit 0 ;;
esac
exit 0
`

// box is a system below a folder. marks are files that make the script misbehave.
func box(t *testing.T, marks ...string) (system, string) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"etc", "usr/bin", "var/lib/apt/lists", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{"etc/os-release": "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n", "var/lib/apt/lists/x_Packages": ""}
	for _, m := range marks {
		files[m] = ""
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"apt-get", "dpkg", "sudo", "mount"} {
		if err := os.WriteFile(filepath.Join(root, "usr/bin", program), []byte(fmt.Sprintf(aptScript, root)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := system{root: os.DirFS(root), path: "/usr/bin", now: time.Now}
	s.needs = func(_ context.Context, ids []string) ([]Missing, error) {
		var missing []Missing
		located := locateTools(s.root, s.path)
		for _, id := range ids {
			if id == "io_uring" || located[id] != "" {
				continue
			}
			missing = append(missing, Missing{ID: id, Why: "not there", Fix: "get it"})
		}
		return missing, nil
	}
	s.run = func(ctx context.Context, argv []string) (string, error) {
		real := append([]string{filepath.Join(root, "usr/bin", argv[0])}, argv[1:]...)
		return runCommand(ctx, real, nil, &bytes.Buffer{})
	}
	return s, root
}

func calls(t *testing.T, root string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "calls"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

const installFio = "apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends -- fio\n"

func TestSetupInstallsWhatIsMissingOnce(t *testing.T) {
	s, root := box(t)
	options := SetupOptions{Needs: []string{"io_uring", "tool.fio"}}
	var said bytes.Buffer
	options.Out = &said
	report, err := s.setup(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	if got := calls(t, root); got != installFio {
		t.Errorf("called:\n%s", got)
	}
	if len(report.Steps) != 1 || !report.Steps[0].Done || !slices.Equal(report.Present, []string{"io_uring"}) {
		t.Errorf("report %+v", report)
	}
	if plan, run := strings.Index(said.String(), "will run"), strings.Index(said.String(), "$ apt-get"); plan < 0 || run < plan {
		t.Errorf("it does not say what it does before it does it:\n%s", said.String())
	}
	said.Reset()
	report, err = s.setup(context.Background(), options)
	if err != nil || len(report.Steps) != 0 || calls(t, root) != installFio || !strings.Contains(said.String(), "nothing to install") {
		t.Errorf("the second time: %+v, %v\n%s", report, err, said.String())
	}
}

func TestSetupInstallsOnlyWhatIsAskedFor(t *testing.T) {
	s, root := box(t)
	if _, err := s.setup(context.Background(), SetupOptions{Needs: []string{"io_uring"}}); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, root); got != "" {
		t.Errorf("a lab that needs no package called:\n%s", got)
	}
	_, err := s.setup(context.Background(), SetupOptions{Purposes: []Purpose{ForReports}, DryRun: true})
	if err != nil || calls(t, root) != "" {
		t.Errorf("dry run: %v, called %q", err, calls(t, root))
	}
	report, err := s.setup(context.Background(), SetupOptions{Purposes: []Purpose{ForGenerate}, DryRun: true})
	if err != nil || len(report.Steps) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	command := report.Steps[0].Command
	for _, p := range []string{"clang-19", "llvm-19", "lld-19", "clang-format-19", "libbpf-dev"} {
		if !slices.Contains(command, p) {
			t.Errorf("%v lacks %s", command, p)
		}
	}
	if slices.Contains(command, "chromium") || slices.Contains(command, "fio") {
		t.Errorf("%v installs more than was asked for", command)
	}
}

func TestSetupSteps(t *testing.T) {
	for _, c := range []struct {
		name  string
		marks []string
		euid  int
		age   time.Duration
		needs []string
		want  string
	}{
		{"old lists", nil, 0, 48 * time.Hour, []string{"tool.fio"}, "apt-get -o DPkg::Lock::Timeout=120 update\n" + installFio},
		{"interrupted before", []string{"var/lib/dpkg/updates/0007"}, 0, 0, []string{"tool.fio"}, "dpkg --configure -a\n" + installFio},
		{"stale lists", []string{"unknown"}, 0, 0, []string{"tool.fio"}, installFio + "apt-get -o DPkg::Lock::Timeout=120 update\n" + installFio},
		{"mount", nil, 0, 0, []string{"tracefs"}, "mount -t tracefs nodev /sys/kernel/tracing\n"},
		{"not root", nil, 1000, 0, []string{"tool.fio"}, "sudo env DEBIAN_FRONTEND=noninteractive LC_ALL=C " + installFio + installFio},
	} {
		s, root := box(t, c.marks...)
		s.euid = c.euid
		s.now = func() time.Time { return time.Now().Add(c.age) }
		if _, err := s.setup(context.Background(), SetupOptions{Needs: c.needs}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := calls(t, root); got != c.want {
			t.Errorf("%s: called\n%swant\n%s", c.name, got, c.want)
		}
	}
}

func TestSetupFailures(t *testing.T) {
	for _, c := range []struct {
		name   string
		marks  []string
		needs  []string
		change func(*system, string)
		want   []string
	}{
		{"no network", []string{"offline"}, []string{"tool.fio"}, nil, []string{"can't install fio", "can't be reached", "apt-get"}},
		{"locked", []string{"locked"}, []string{"tool.fio"}, nil, []string{"holds the lock"}},
		{"came with nothing", []string{"empty-handed"}, []string{"tool.fio"}, nil, []string{"still not found on PATH"}},
		{"not Debian", nil, []string{"tool.clang", "tool.fio"}, func(_ *system, root string) {
			_ = os.WriteFile(filepath.Join(root, "etc/os-release"), []byte("ID=fedora\nPRETTY_NAME=\"Fedora Linux 41\"\n"), 0o644)
		}, []string{"Fedora Linux 41", "clang, llvm (version 19)", "fio", "package manager"}},
		{"no sudo", nil, []string{"tool.fio"}, func(s *system, root string) {
			s.euid = 1000
			_ = os.Remove(filepath.Join(root, "usr/bin/sudo"))
		}, []string{"needs root", "sudo is not on PATH", "as root: apt-get"}},
		{"a kernel feature", nil, []string{"btf", "tool.fio"}, nil, []string{"this environment can't run it", "btf: not there", "fix: get it"}},
	} {
		s, root := box(t, c.marks...)
		if c.change != nil {
			c.change(&s, root)
		}
		_, err := s.setup(context.Background(), SetupOptions{Needs: c.needs})
		var code interface{ ExitCode() int }
		if !errors.As(err, &code) || code.ExitCode() != 3 {
			t.Errorf("%s: %v, want exit code 3", c.name, err)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", c.name, err, part)
			}
		}
		if c.name == "a kernel feature" && calls(t, root) != "" {
			t.Errorf("installed for a lab that can't run: %s", calls(t, root))
		}
	}
}

// TestSetupInterrupted stops setup while the package manager is at work, by
// context and by SIGKILL, and lets the next call finish the work.
func TestSetupInterrupted(t *testing.T) {
	s, root := box(t, "slow")
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := s.setup(ctx, SetupOptions{Needs: []string{"tool.fio"}})
		failed <- err
	}()
	journal := filepath.Join(root, "var/lib/dpkg/updates/0001")
	poll(t, "the package manager is at work", func() bool { _, err := os.Stat(journal); return err == nil })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "run setup again") {
		t.Errorf("interrupted: %v", err)
	}
	if err := os.Remove(filepath.Join(root, "slow")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.setup(context.Background(), SetupOptions{Needs: []string{"tool.fio"}}); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, root); !strings.HasSuffix(got, "dpkg --configure -a\n"+installFio) {
		t.Errorf("the second call did not mend the first:\n%s", got)
	}
}

const setupVariable = "NEXUS_MACHINE_TEST_SETUP"

// TestSetupHelper is no test: it runs the install step of a box in a process of
// its own, to be killed.
func TestSetupHelper(t *testing.T) {
	root := os.Getenv(setupVariable)
	if root == "" {
		return
	}
	argv := append([]string{filepath.Join(root, "usr/bin/apt-get")}, aptInstall([]string{"fio"})[1:]...)
	_, _ = runCommand(context.Background(), argv, nil, &bytes.Buffer{}) // it does not come back
}

func TestSetupKilled(t *testing.T) {
	s, root := box(t, "slow")
	cmd := exec.Command(os.Args[0], "-test.run=^TestSetupHelper$")
	cmd.Env = append(os.Environ(), setupVariable+"="+root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	journal := filepath.Join(root, "var/lib/dpkg/updates/0001")
	poll(t, "the package manager is at work", func() bool { _, err := os.Stat(journal); return err == nil })
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // reports the kill
	if err := os.Remove(filepath.Join(root, "slow")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.setup(context.Background(), SetupOptions{Needs: []string{"tool.fio"}}); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, root); got != installFio+"dpkg --configure -a\n"+installFio {
		t.Errorf("called:\n%s", got)
	}
}

// TestSetupOnThisMachine asks for what is here: nothing may run.
func TestSetupOnThisMachine(t *testing.T) {
	missing, err := Needs(context.Background(), []string{"io_uring", "cpu.count"}, DoctorOptions{})
	if err != nil {
		t.Fatal(err)
	}
	report, err := Setup(context.Background(), SetupOptions{Needs: []string{"io_uring", "cpu.count"}})
	var cannot *MissingError
	if len(missing) > 0 && !errors.As(err, &cannot) {
		t.Errorf("this machine lacks %v, and setup says %v", missing, err)
	}
	if len(missing) == 0 && err != nil {
		t.Error(err)
	}
	if len(report.Steps) != 0 {
		t.Errorf("it ran %v", report.Steps)
	}
}

func TestAptListsOld(t *testing.T) {
	now := time.Now()
	tree := func(age time.Duration, names ...string) fs.FS {
		m := fstest.MapFS{"var/lib/apt/lists": {Mode: fs.ModeDir | 0o755, ModTime: now.Add(-age)}}
		for _, n := range names {
			m["var/lib/apt/lists/"+n] = &fstest.MapFile{ModTime: now.Add(-1000 * time.Hour)}
		}
		return m
	}
	for name, c := range map[string]struct {
		root fs.FS
		want bool
	}{
		"no folder":       {fstest.MapFS{}, true},
		"no lists":        {tree(time.Hour, "lock"), true},
		"fresh":           {tree(time.Hour, "deb_Packages.lz4"), false},
		"two days before": {tree(48*time.Hour, "deb_Packages"), true},
	} {
		if got := aptListsOld(c.root, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMetCountsInWords(t *testing.T) {
	for needs, want := range map[int]string{1: "the one need is met", 3: "all 3 needs are met"} {
		if got := met(needs); got != want {
			t.Errorf("%d: %q, want %q", needs, got, want)
		}
	}
}
