package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/vagrant/guest"
	"github.com/nexuscore-labs/nexus/vagrant/qemu"
)

// testsDir holds the compiled tests in the machine.
const testsDir = "/nexus/tests"

// testTimeout bounds one package's tests.
const testTimeout = 3 * time.Minute

// outputLenMax bounds what is kept of one command.
const outputLenMax = 4 << 20

// command is what a package's tests are called with; the doctor comes first.
type command struct {
	args []string
	dir  string
}

func commands(self string, packages []Package, binary, dir func(Package) string) []command {
	all := []command{{args: []string{self, "doctor", "--json"}}}
	for _, p := range packages {
		all = append(all, command{args: []string{binary(p), "-test.v", "-test.timeout=" + testTimeout.String()}, dir: dir(p)})
	}
	return all
}

// OnMachine proves the packages, whose tests lie compiled in dir, on a machine.
func OnMachine(ctx context.Context, options qemu.Options, packages []Package, dir string, progress func(done, total int)) (Kernel, error) {
	began := time.Now()
	inside := func(p Package) string { return path.Join(testsDir, filepath.Base(Binary(dir, p))) }
	all := commands(guest.BinaryPath, packages, inside, func(Package) string { return guest.DataDir })
	for _, c := range all {
		options.Request.Commands = append(options.Request.Commands, guest.Command{Name: path.Base(c.args[0]), Args: c.args, Dir: c.dir,
			TimeoutMs: (testTimeout + 10*time.Second).Milliseconds()})
	}
	for _, p := range packages {
		options.Files = append(options.Files, qemu.File{Name: inside(p), Source: Binary(dir, p), Program: true})
	}
	outputs := make([]limited, len(all))
	current := 0
	options.Started = func(index int) {
		current = index
		progress(index, len(all))
	}
	options.Stdout = writer(func(b []byte) { outputs[current].Write(b) })
	options.Stderr = writer(func(b []byte) {
		if current > 0 { // the doctor's progress is no output
			outputs[current].Write(b)
		}
	})
	report, err := qemu.Run(ctx, options)
	if err != nil {
		return Kernel{}, err
	}
	codes := make([]int, len(all))
	for _, exit := range report.Exits {
		codes[exit.Index] = exit.Code
	}
	k := Kernel{Name: report.Kernel, Release: report.Release, Accel: report.Accel, BootMs: report.BootMs}
	err = k.judge(packages, outputs, codes)
	k.TookMs = time.Since(began).Milliseconds()
	return k, err
}

// OnHost proves them on the running kernel.
func OnHost(ctx context.Context, tree, self string, packages []Package, dir string, progress func(done, total int)) (Kernel, error) {
	if os.Geteuid() != 0 {
		return Kernel{}, &qemu.LackError{What: "BPF programs need root, and this is user " + fmt.Sprint(os.Geteuid()), Fix: "sudo make matrix"}
	}
	began := time.Now()
	all := commands(self, packages, func(p Package) string { return Binary(dir, p) },
		func(p Package) string { return filepath.Join(tree, "bpf", p.Name) })
	outputs, codes := make([]limited, len(all)), make([]int, len(all))
	for i, c := range all {
		progress(i, len(all))
		cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
		cmd.Dir = c.dir
		cmd.Stdout = &outputs[i]
		if i > 0 {
			cmd.Stderr = &outputs[i]
		}
		cmd.WaitDelay = 5 * time.Second
		var exit *exec.ExitError
		if err := cmd.Run(); errors.As(err, &exit) {
			codes[i] = exit.ExitCode()
		} else if err != nil {
			return Kernel{}, fmt.Errorf("run %s: %w", c.args[0], err)
		}
		if err := ctx.Err(); err != nil {
			return Kernel{}, err
		}
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return Kernel{}, fmt.Errorf("uname: %w", err)
	}
	k := Kernel{Name: HostName, Release: unix.ByteSliceToString(uts.Release[:])}
	err := k.judge(packages, outputs, codes)
	k.TookMs = time.Since(began).Milliseconds()
	return k, err
}

func (k *Kernel) judge(packages []Package, outputs []limited, codes []int) error {
	var found struct {
		Findings []machine.Finding `json:"findings"`
	}
	if err := json.Unmarshal(outputs[0].Bytes(), &found); err != nil {
		return fmt.Errorf("read what the doctor says of kernel %s: %w: %s", k.Release, err, tail(outputs[0].String()))
	}
	for _, f := range found.Findings {
		if f.Group == "BPF" {
			k.Kinds = append(k.Kinds, Kind{Name: f.Title, OK: f.Status == machine.OK, Reason: f.Detail})
		}
	}
	for i, p := range packages {
		rows, tests, err := Judge(p, outputs[i+1].String(), codes[i+1])
		if err != nil {
			return err
		}
		k.Rows = append(k.Rows, rows...)
		k.Tests = append(k.Tests, tests)
	}
	return nil
}

// limited keeps the start of an output.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := outputLenMax - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}
