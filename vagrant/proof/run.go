package proof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
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

// Subject is what is proven on a kernel: the packages, whose tests lie compiled in
// Dir, and the small forms of labs.
type Subject struct {
	Packages []Package
	Dir      string
	Labs     []Lab
}

// command is what a kernel runs; the doctor comes first, then the packages' tests,
// then the labs.
type command struct {
	args    []string
	dir     string
	timeout time.Duration
}

func (s Subject) commands(self, runs string, binary, dir func(Package) string) []command {
	all := []command{{args: []string{self, "doctor", "--json"}, timeout: testTimeout}}
	for _, p := range s.Packages {
		all = append(all, command{[]string{binary(p), "-test.v", "-test.timeout=" + testTimeout.String()}, dir(p), testTimeout + 10*time.Second})
	}
	for _, l := range s.Labs {
		all = append(all, command{l.arguments(self, runs), "", labTimeout})
	}
	return all
}

// Name says what the command at an index is.
func (s Subject) Name(index int) string {
	switch labs := index - 1 - len(s.Packages); {
	case index == 0:
		return "program kinds"
	case labs < 0:
		return "bpf/" + s.Packages[index-1].Name
	default:
		return fmt.Sprintf("day %d, small form", s.Labs[labs].Day)
	}
}

// output is what one command said.
type output struct {
	all    limited // both streams, as tests are read
	stdout limited
	code   int
}

// OnMachine proves the subject on a machine.
func OnMachine(ctx context.Context, options qemu.Options, s Subject, progress func(done, total int)) (Kernel, error) {
	began := time.Now()
	inside := func(p Package) string { return path.Join(testsDir, filepath.Base(Binary(s.Dir, p))) }
	all := s.commands(guest.BinaryPath, guest.DataDir+"/runs", inside, func(Package) string { return guest.DataDir })
	for _, c := range all {
		if c.dir == "" {
			c.dir = guest.DataDir
		}
		options.Request.Commands = append(options.Request.Commands,
			guest.Command{Name: path.Base(c.args[0]), Args: c.args, Dir: c.dir, TimeoutMs: c.timeout.Milliseconds()})
	}
	for _, p := range s.Packages {
		options.Files = append(options.Files, qemu.File{Name: inside(p), Source: Binary(s.Dir, p), Program: true})
	}
	outputs := make([]output, len(all))
	current := 0
	options.Started = func(index int) {
		current = index
		progress(index, len(all))
	}
	options.Stdout = writer(func(b []byte) {
		outputs[current].all.Write(b)
		outputs[current].stdout.Write(b)
	})
	options.Stderr = writer(func(b []byte) { outputs[current].all.Write(b) })
	report, err := qemu.Run(ctx, options)
	if err != nil {
		return Kernel{}, err
	}
	for _, exit := range report.Exits {
		outputs[exit.Index].code = exit.Code
		if exit.TimedOut || exit.Signal != "" {
			outputs[exit.Index].code = -1
		}
	}
	k := Kernel{Name: report.Kernel, Release: report.Release, Accel: report.Accel, BootMs: report.BootMs}
	err = k.judge(s, outputs)
	k.TookMs = time.Since(began).Milliseconds()
	return k, err
}

// OnHost proves it on the running kernel.
func OnHost(ctx context.Context, tree, self string, s Subject, progress func(done, total int)) (Kernel, error) {
	if os.Geteuid() != 0 {
		return Kernel{}, &qemu.LackError{What: "BPF programs need root, and this is user " + fmt.Sprint(os.Geteuid()), Fix: "sudo make matrix"}
	}
	began := time.Now()
	all := s.commands(self, filepath.Join(s.Dir, "runs"), func(p Package) string { return Binary(s.Dir, p) },
		func(p Package) string { return filepath.Join(tree, "bpf", p.Name) })
	all[0].args = append(withTracefs(), all[0].args...)
	outputs := make([]output, len(all))
	for i, c := range all {
		progress(i, len(all))
		if err := onHost(ctx, c, &outputs[i]); err != nil {
			return Kernel{}, err
		}
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return Kernel{}, fmt.Errorf("uname: %w", err)
	}
	k := Kernel{Name: HostName, Release: unix.ByteSliceToString(uts.Release[:])}
	err := k.judge(s, outputs)
	k.TookMs = time.Since(began).Milliseconds()
	return k, err
}

// withTracefs begins a command that sees a tracefs whether the host mounts one or
// not, as the tests do for themselves: what a kernel accepts must not depend on it.
func withTracefs() []string {
	const script = `mount -t tracefs nodev /sys/kernel/tracing 2>/dev/null; exec "$0" "$@"`
	return []string{"unshare", "--mount", "sh", "-c", script}
}

func onHost(ctx context.Context, c command, out *output) error {
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cmd := exec.CommandContext(within, c.args[0], c.args[1:]...)
	cmd.Dir = c.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var streams sync.Mutex
	tee := writer(func(b []byte) {
		streams.Lock()
		defer streams.Unlock()
		out.all.Write(b)
	})
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out.stdout, tee), tee
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		out.code = exit.ExitCode()
	case err != nil:
		return fmt.Errorf("run %s: %w", c.args[0], err)
	}
	return nil
}

func (k *Kernel) judge(s Subject, outputs []output) error {
	var found struct {
		Findings []machine.Finding `json:"findings"`
	}
	if err := json.Unmarshal(outputs[0].stdout.Bytes(), &found); err != nil {
		return fmt.Errorf("read what the doctor says of kernel %s: %w: %s", k.Release, err, tail(outputs[0].stdout.String()))
	}
	for _, f := range found.Findings {
		if f.Group == "BPF" {
			k.Kinds = append(k.Kinds, Kind{Name: f.Title, OK: f.Status == machine.OK, Reason: f.Detail})
		}
	}
	outputs = outputs[1:]
	for i, p := range s.Packages {
		rows, tests, err := Judge(p, outputs[i].all.String(), outputs[i].code)
		if err != nil {
			return err
		}
		k.Rows = append(k.Rows, rows...)
		k.Tests = append(k.Tests, tests)
	}
	outputs = outputs[len(s.Packages):]
	for i, l := range s.Labs {
		k.Labs = append(k.Labs, judgeLab(l, outputs[i].stdout.String(), outputs[i].all.String(), outputs[i].code))
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
