package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/vagrant"
	"github.com/nexuscore-labs/nexus/vagrant/guest"
)

// The tests boot real machines; this test binary is what runs in them.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case guest.InitCommand:
			fmt.Fprintln(os.Stderr, guest.Init())
			os.Exit(1)
		case guest.RunCommand:
			if err := guest.Run(context.Background()); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "misbehave":
			misbehave(os.Args[2])
		}
	}
	os.Exit(m.Run())
}

// misbehave is what the commands of the tests do in the machine.
func misbehave(how string) {
	switch how {
	case "fail":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
		dir := filepath.Join(guest.DataDir, "out", "below")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "result"), bytes.Repeat([]byte("x"), 300_000), 0o644)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(7)
	case "panic":
		fmt.Fprintln(os.Stderr, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	case "hang":
		time.Sleep(time.Hour)
	case "eat":
		for eaten := []byte{1}; ; {
			eaten = append(eaten, bytes.Repeat([]byte{1}, 1<<20)...)
			eaten[0]++
		}
	}
	os.Exit(1)
}

// boot runs the command in a machine of the newest kernel of the matrix.
func boot(t *testing.T, how string, change func(*Options)) (Report, string, error) {
	t.Helper()
	return bootIn(t.Context(), t, how, change)
}

func bootIn(ctx context.Context, t *testing.T, how string, change func(*Options)) (Report, string, error) {
	t.Helper()
	entry, err := vagrant.ByName("6.12")
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := Fetch(t.Context(), entry, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // consoles of failures on purpose are not kept
	var output bytes.Buffer
	options := Options{Kernel: kernel, Binary: self, MemoryMiB: 384, CPUs: 2, DiskMiB: 64, Timeout: 2 * time.Minute, Accel: "tcg", Stdout: &output, Stderr: &output,
		Request: guest.Request{Commands: []guest.Command{{Name: how, Args: []string{guest.BinaryPath, "misbehave", how}, TimeoutMs: 90_000}}}}
	if change != nil {
		change(&options)
	}
	report, err := Run(ctx, options)
	leftovers, leftErr := machine.Leftovers(t.Context())
	if leftErr != nil {
		t.Fatal(leftErr)
	}
	for _, l := range leftovers {
		if l.PID == os.Getpid() {
			t.Errorf("left behind: %s", l)
		}
	}
	return report, output.String(), err
}

func TestOutputExitCodeAndFilesComeBack(t *testing.T) {
	dir := t.TempDir()
	report, output, err := boot(t, "fail", func(o *Options) {
		o.Request.Collect, o.Collect = guest.DataDir+"/out", dir
		o.Request.Commands = append(o.Request.Commands, guest.Command{Name: "late", Args: []string{guest.BinaryPath, "misbehave", "hang"}, TimeoutMs: 200},
			guest.Command{Name: "absent", Args: []string{"/no/such/program"}, TimeoutMs: 1000})
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Exits) != 3 || report.Exits[0].Code != 7 || !report.Exits[1].TimedOut || report.Exits[2].Code == 0 {
		t.Errorf("the commands ended with %+v", report.Exits)
	}
	if !strings.Contains(output, "to stdout\n") || !strings.Contains(output, "to stderr\n") {
		t.Errorf("output %q", output)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "below", "result")); err != nil || len(text) != 300_000 {
		t.Errorf("the file has %d bytes, error %v", len(text), err)
	}
	if !strings.HasPrefix(report.Release, "6.12.") || report.BootMs <= 0 || !report.Emulated() {
		t.Errorf("report %+v", report)
	}
}

func TestMachinesThatFail(t *testing.T) {
	for _, test := range []struct {
		how    string
		fate   Fate
		change func(*Options)
	}{
		{"panic", FatePanic, nil},
		{"hang", FateHang, func(o *Options) { o.Timeout = 3 * time.Second }},
		{"eat", FateMemory, nil},
		{"silent", FateSilent, func(o *Options) { o.Boot = time.Second }},
	} {
		t.Run(test.how, func(t *testing.T) {
			_, _, err := boot(t, test.how, test.change)
			var failed *MachineError
			if !errors.As(err, &failed) {
				t.Fatalf("error %v", err)
			}
			if failed.Fate != test.fate || failed.ExitCode() != 4 {
				t.Errorf("fate %q with exit code %d, want %q", failed.Fate, failed.ExitCode(), test.fate)
			}
			if _, err := os.Stat(failed.Console); err != nil || !strings.Contains(failed.Error(), failed.Console) {
				t.Errorf("the console is not kept, or not named: %v", err)
			}
		})
	}
}

func TestInterruption(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	_, _, err := bootIn(ctx, t, "hang", func(o *Options) { o.Started = func(int) { interrupt() } })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the interruption", err)
	}
}

func TestLacks(t *testing.T) {
	lacks := func(err error, words ...string) {
		t.Helper()
		var lack *LackError
		if !errors.As(err, &lack) || lack.ExitCode() != 3 {
			t.Errorf("error %v, want one of exit code 3", err)
			return
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q does not say %q", err, word)
			}
		}
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	say := func(string) {}
	_, err := Fetch(t.Context(), vagrant.Kernel{Name: "0.1", Machine: "k01"}, say)
	lacks(err, "vagrant up k01")
	_, err = Fetch(t.Context(), vagrant.Kernel{Name: "0.1", Machine: "k01", Package: "linux-image-no-such-flavour"}, say)
	lacks(err, "linux-image-no-such-flavour", "apt-get update")
	t.Setenv("PATH", t.TempDir())
	_, err = Fetch(t.Context(), vagrant.Kernel{Name: "0.1", Machine: "k01", Package: "linux-image-x"}, say)
	lacks(err, "vagrant up k01")
	_, err = Run(t.Context(), Options{Accel: "tcg"})
	lacks(err, "QEMU", "setup --for vm")
}
