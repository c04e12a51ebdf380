package day07

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/systems/seglog/crashtest"
	"github.com/nexuscore-labs/nexus/vagrant/guest"
	"github.com/nexuscore-labs/nexus/vagrant/nbd"
	"github.com/nexuscore-labs/nexus/vagrant/qemu"
)

// PowerCutOptions size the experiment.
type PowerCutOptions struct {
	Machine  qemu.Options // kernel, binary, memory, processors
	Cuts     int
	Seed     uint64
	Progress func(PowerCut) // after each cut
}

// PowerCut is one machine whose power was cut while the log appended.
type PowerCut struct {
	Control  bool       `json:"control"` // the disk lied about flushes: losses are expected
	BootMs   int64      `json:"boot_ms"`
	AfterMs  int64      `json:"after_ms"` // from the first acknowledgement to the cut
	Acked    uint64     `json:"acked"`    // records that the host was told are durable
	Disk     nbd.Counts `json:"disk"`
	Lost     uint64     `json:"lost"`
	Phantom  uint64     `json:"phantom"`
	Wrong    uint64     `json:"wrong"`
	Torn     uint64     `json:"torn"` // the log's end was torn and cut off
	Accel    string     `json:"accel"`
	Release  string     `json:"release"`
	Failures []string   `json:"failures,omitempty"`
}

// Bad reports whether the log broke its promise.
func (p PowerCut) Bad() bool { return p.Lost+p.Phantom+p.Wrong > 0 }

const (
	powerCutDiskMiB = 512
	powerCutLog     = "log"
	// powerCutDelayMax is the longest time from the first acknowledgement to the
	// cut; an emulated machine appends some hundred records in it.
	powerCutDelayMax = 2 * time.Second
	// powerCutTimeout bounds a machine that acknowledges nothing.
	powerCutTimeout = time.Minute
	// unheardMax is how many acknowledgements can be lost on their way out of the
	// machine: what fits the child's pipe (64 KiB, pipe(7)) and the buffer of who
	// reads it (32 KiB, io.Copy).
	unheardMax = (64 + 32) << 10 / crashtest.AckLen
)

// PowerCuts lets the log append in a virtual machine whose disk has a volatile
// write cache, cuts the power at a random moment, and reads on the host what the
// disk kept. The first cut is the control: its disk ignores flushes, and if then
// nothing is lost the experiment shows nothing. Acknowledgements count when they
// have reached the host.
func PowerCuts(ctx context.Context, options PowerCutOptions) ([]PowerCut, error) {
	if options.Cuts < 1 || options.Cuts > 10_000 {
		return nil, fmt.Errorf("%d power cuts", options.Cuts)
	}
	rng := rand.New(rand.NewPCG(options.Seed, 7))
	var cuts []PowerCut
	for i := range options.Cuts + 1 {
		cut, err := powerCut(ctx, options, i == 0, rng)
		if err != nil {
			return cuts, fmt.Errorf("power cut %d: %w", i, err)
		}
		cuts = append(cuts, cut)
		if options.Progress != nil {
			options.Progress(cut)
		}
	}
	return cuts, nil
}

func powerCut(ctx context.Context, options PowerCutOptions, control bool, rng *rand.Rand) (cut PowerCut, err error) {
	work, err := machine.NewTempRoot()
	if err != nil {
		return cut, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	image := filepath.Join(work, "disk")
	if err := qemu.MakeDisk(ctx, image, powerCutDiskMiB); err != nil {
		return cut, err
	}
	disk, err := nbd.Open(image)
	if err != nil {
		return cut, err
	}
	disk.Lies = control
	v := &victim{disk: disk, rng: rng, acks: crashtest.Acks{}}
	cut, err = v.run(ctx, options, work)
	if err := errors.Join(err, disk.Close()); err != nil {
		return cut, err
	}
	cut.Control, cut.Acked = control, v.acks.Records()
	found, err := readBack(ctx, image, work, options.Seed, v.acks)
	cut.Lost, cut.Phantom, cut.Wrong, cut.Torn, cut.Failures = found.Lost, found.Phantom, found.Wrong, found.Torn, found.Failures
	return cut, err
}

// victim is a machine that will lose its power.
type victim struct {
	disk *nbd.Disk
	rng  *rand.Rand

	mu      sync.Mutex
	acks    crashtest.Acks
	rest    []byte
	first   time.Time
	after   time.Duration
	counts  nbd.Counts
	cutErr  error
	started bool
}

func (v *victim) run(ctx context.Context, options PowerCutOptions, work string) (PowerCut, error) {
	socket := filepath.Join(work, "disk.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return PowerCut{}, fmt.Errorf("serve the machine's disk: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- nbd.Serve(listener, v.disk) }()
	running, pull := context.WithCancel(ctx)
	defer pull()
	m := options.Machine
	m.DiskMiB, m.Drive = 0, "nbd+unix:///?socket="+socket
	m.Request = guest.Request{Commands: []guest.Command{{Name: CrashChildCommand, TimeoutMs: powerCutTimeout.Milliseconds(),
		Args: []string{guest.BinaryPath, CrashChildCommand, "-dir", filepath.Join(guest.DataDir, powerCutLog), "-seed", strconv.FormatUint(options.Seed, 10)}}}}
	m.Timeout, m.Hello = powerCutTimeout, nil
	m.Stdout = v.hearing(pull)
	var said limitedText
	m.Stderr = &said
	report, err := qemu.Run(running, m)
	listener.Close()
	<-served // it ends with its client, whose end says all that matters
	v.mu.Lock()
	defer v.mu.Unlock()
	cut := PowerCut{BootMs: report.BootMs, AfterMs: v.after.Milliseconds(), Disk: v.counts, Accel: report.Accel, Release: report.Release}
	switch {
	case ctx.Err() != nil:
		return cut, ctx.Err()
	case v.counts.Writes == 0 && err != nil:
		return cut, err
	case v.counts.Writes == 0:
		return cut, fmt.Errorf("the log ended by itself: %s", said.text)
	}
	return cut, v.cutErr
}

// hearing takes acknowledgements; the first one decides when the power goes. The
// disk goes first: what the machine sends afterwards can't be backed by a flush
// that the disk did not do.
func (v *victim) hearing(pull func()) ackWriter {
	return func(p []byte) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.rest = append([]byte(nil), v.acks.Take(append(v.rest, p...))...)
		if v.started || v.acks.Records() == 0 {
			return
		}
		v.started, v.first = true, time.Now()
		delay := time.Duration(v.rng.Int64N(int64(powerCutDelayMax)))
		atWrite := v.rng.IntN(2) == 0
		time.AfterFunc(delay, func() {
			cut := func(counts nbd.Counts, err error) {
				v.mu.Lock()
				v.counts, v.cutErr, v.after = counts, err, time.Since(v.first)
				v.mu.Unlock()
				pull()
			}
			if atWrite {
				// Most of the time nothing waits for a flush; here something does.
				v.disk.CutAtWrite(v.rng, cut)
				return
			}
			cut(v.disk.Cut(v.rng))
		})
	}
}

type ackWriter func([]byte)

func (w ackWriter) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// limitedText keeps the start of what the machine's log says.
type limitedText struct{ text []byte }

func (l *limitedText) Write(p []byte) (int, error) {
	l.text = append(l.text, p[:min(len(p), max(0, 4096-len(l.text)))]...)
	return len(p), nil
}

// readBack replays the file system's journal and copies the log out of the image,
// both in user space, so that the host needs neither its own kernel's help nor
// root; then it recovers the log and asks the oracle.
func readBack(ctx context.Context, image, work string, seed uint64, acks crashtest.Acks) (crashtest.Counts, error) {
	out, err := exec.CommandContext(ctx, systemTool("e2fsck"), "-f", "-y", image).CombinedOutput()
	var exit *exec.ExitError
	// 1: it repaired something, which is its job here; e2fsck(8).
	if errors.As(err, &exit) && exit.ExitCode() > 1 || err != nil && exit == nil {
		return crashtest.Counts{Points: 1, Lost: acks.Records(), Failures: []string{"the file system is beyond repair: " + string(out)}}, ctx.Err()
	}
	if out, err = exec.CommandContext(ctx, systemTool("debugfs"), "-R", "rdump /"+powerCutLog+" "+work, image).CombinedOutput(); err != nil {
		return crashtest.Counts{}, fmt.Errorf("copy the log out of the disk: %w: %s", err, out)
	}
	dir := filepath.Join(work, powerCutLog)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return crashtest.Counts{Points: 1, Lost: acks.Records(), Failures: []string{"the log's folder is gone: " + string(out)}}, nil
	}
	return crashtest.CheckChild(dir, seed, acks, unheardMax, "after the power cut")
}

func systemTool(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return filepath.Join("/usr/sbin", name)
}
