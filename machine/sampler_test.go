package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// stage is a machine whose files and clocks a test moves by hand.
type stage struct {
	files fstest.MapFS
	now   Clocks
	own   int64
}

func newStage(stat string) *stage {
	return &stage{files: fstest.MapFS{"proc/stat": {Data: []byte(stat)}}, now: Clocks{MonotonicNs: 1e9, RealNs: 5e18, BootNs: 2e9}}
}

func (s *stage) Open(name string) (fs.File, error) { return s.files.Open(name) }

func (s *stage) set(name, text string) { s.files[name] = &fstest.MapFile{Data: []byte(text)} }

// pass lets time go by on all clocks.
func (s *stage) pass(ns int64) {
	s.now.MonotonicNs, s.now.RealNs, s.now.BootNs = s.now.MonotonicNs+ns, s.now.RealNs+ns, s.now.BootNs+ns
}

func (s *stage) sampler(cpus ...int) *Sampler {
	sampler := NewSampler(SamplerOptions{CPUs: cpus, OwnNs: func() (int64, error) { return s.own, nil }})
	sampler.root, sampler.clocks = s, func() (Clocks, error) { return s.now, nil }
	return sampler
}

// measure runs change between the first and the last reading, with a look after
// each part, and no other goroutine.
func (s *stage) measure(t *testing.T, cpus []int, parts ...func()) Readings {
	t.Helper()
	sampler := s.sampler(cpus...)
	if err := sampler.begin(); err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		part()
		sampler.look()
	}
	r, err := sampler.end()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSamplerSeesStealAndOtherLoad(t *testing.T) {
	s := newStage("cpu0 0 0 0 0 0 0 0 0\ncpu1 100 0 0 0 0 0 0 10\n")
	r := s.measure(t, []int{1}, func() {
		s.set("proc/stat", "cpu0 50 0 0 0 0 0 0 7\ncpu1 150 0 20 0 0 1 2 13\n")
		s.own = 40 * tickNs
		s.pass(1e9)
	})
	if r.ElapsedNs != 1e9 {
		t.Errorf("elapsed %d", r.ElapsedNs)
	}
	if r.StealNs != 10*tickNs || r.StealOwnNs != 3*tickNs {
		t.Errorf("steal %d, own %d; want 10 and 3 ticks", r.StealNs, r.StealOwnNs)
	}
	if r.StealWorstCPU != 1 || r.StealWorstNs != 3*tickNs {
		t.Errorf("CPU %d lost most, %d", r.StealWorstCPU, r.StealWorstNs)
	}
	if r.BusyNs != 70*tickNs || r.OtherLoadNs != 30*tickNs || r.InterruptNs != 3*tickNs {
		t.Errorf("busy %d, other %d, interrupts %d; want 70, 30 and 3 ticks", r.BusyNs, r.OtherLoadNs, r.InterruptNs)
	}
	if r.FrequencyChanges != -1 || r.ThrottleEvents != -1 || len(r.NotMeasured) != 2 {
		t.Errorf("what is not there was measured: %+v", r)
	}
	if len(r.Invalid) != 0 {
		t.Errorf("invalid: %v", r.Invalid)
	}
}

func TestSamplerNeverCountsBackwards(t *testing.T) {
	s := newStage("cpu0 100 0 0 0 0 0 0 50\ncpu1 100 0 0 0 0 0 0 50\n")
	r := s.measure(t, []int{0, 1}, func() {
		s.set("proc/stat", "cpu0 90 0 0 0 0 0 0 40\n") // reset, and CPU 1 went offline
		s.own = 1000 * tickNs
	})
	if r.StealNs != 0 || r.BusyNs != 0 || r.OtherLoadNs != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestSamplerSeesClocksJump(t *testing.T) {
	const look = 50_000_000
	for _, c := range []struct {
		name    string
		change  func(*stage)
		jumps   int
		invalid string
	}{
		{"steady", func(s *stage) { s.pass(look) }, 0, ""},
		{"slewed by NTP", func(s *stage) { s.pass(look); s.now.RealNs += 25_000 }, 0, ""},
		{"stepped forward", func(s *stage) { s.pass(look); s.now.RealNs += 3e9 }, 1, "jumped 1 times, by 3s"},
		{"stepped back", func(s *stage) { s.pass(look); s.now.RealNs -= 5e6 }, 1, "jumped 1 times, by 5ms"},
		{"descheduled while reading", func(s *stage) { s.pass(look); s.now.RealNs += 9e6; s.now.SpreadNs = 10e6 }, 0, ""},
		{"suspended", func(s *stage) { s.pass(look); s.now.BootNs += 4e9; s.now.RealNs += 4e9 }, 1, "suspended for 4s"},
		{"clock source lost", func(s *stage) { s.pass(look); s.set(clockSourceFile, "hpet\n") }, 0, "changed from tsc to hpet"},
	} {
		s := newStage("cpu0 0 0 0 0 0 0 0 0\n")
		s.set(clockSourceFile, "tsc\n")
		r := s.measure(t, nil, func() { s.pass(look) }, func() { c.change(s) })
		if r.ClockJumps != c.jumps {
			t.Errorf("%s: %d jumps, want %d", c.name, r.ClockJumps, c.jumps)
		}
		if got := strings.Join(r.Invalid, "; "); !strings.Contains(got, c.invalid) || (c.invalid == "") != (got == "") {
			t.Errorf("%s: invalid %q, want %q", c.name, got, c.invalid)
		}
	}
}

func TestSamplerSeesFrequencyAndHeat(t *testing.T) {
	s := newStage("cpu0 0 0 0 0 0 0 0 0\n")
	const khz, heat = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
	s.set(khz, "3000000\n")
	s.set(heat, "4\n")
	r := s.measure(t, []int{0},
		func() { s.set(khz, "3010000\n") }, // jitter of the reading
		func() { s.set(khz, "2400000\n") },
		func() { s.set(heat, "6\n") })
	if r.FrequencyChanges != 1 || r.FrequencyKHz != [2]int64{2400000, 3010000} {
		t.Errorf("changes %d, range %v", r.FrequencyChanges, r.FrequencyKHz)
	}
	if r.ThrottleEvents != 2 || len(r.Invalid) != 1 {
		t.Errorf("throttled %d times, invalid %v", r.ThrottleEvents, r.Invalid)
	}
}

// The frequency of a busy CPU must hold; that of an idle one says nothing.
func TestSamplerSeesABusyCPUSlowDown(t *testing.T) {
	const khz = "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
	const look = 50_000_000
	for _, c := range []struct {
		name    string
		busy    bool
		slowest string
		invalid string
	}{
		{"idle and slow", false, "1200000\n", ""},
		{"busy and a little slower", true, "2800000\n", ""},
		{"busy and slow", true, "2600000\n", "the frequency of CPU 0 changed from 2.60 to 3.00 GHz while it was busy, at most 10% are allowed"},
	} {
		s := newStage("cpu0 0 0 0 0 0 0 0 0\n")
		s.set(khz, "3000000\n")
		ticks := 0
		run := func(busy bool) {
			s.pass(look)
			if busy {
				ticks += 5
			}
			s.set("proc/stat", fmt.Sprintf("cpu0 %d 0 0 0 0 0 0 0\n", ticks))
		}
		r := s.measure(t, []int{0}, func() { run(true) }, func() { run(c.busy); s.set(khz, c.slowest) })
		if got := strings.Join(r.Invalid, "; "); got != c.invalid {
			t.Errorf("%s: %q, want %q", c.name, got, c.invalid)
		}
	}
}

func TestSamplerErrors(t *testing.T) {
	empty := NewSampler(SamplerOptions{})
	empty.root = fstest.MapFS{}
	if err := empty.Start(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("start without /proc: %v", err)
	}
	if _, err := empty.Stop(); err == nil {
		t.Error("stopped what never started")
	}
	s := NewSampler(SamplerOptions{OwnNs: func() (int64, error) { return 0, errors.New("gone") }})
	if err := s.Start(); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("own time: %v", err)
	}
}

// TestSamplerOnThisMachine burns a known amount of CPU time in a child and looks
// for it: it must show as other load, and not when it is declared as own.
func TestSamplerOnThisMachine(t *testing.T) {
	const burnNs = 300_000_000
	for _, own := range []bool{false, true} {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		options := SamplerOptions{Interval: 5 * time.Millisecond}
		if own {
			options.OwnNs = func() (int64, error) { return ProcessCPUNs(cmd.Process.Pid) }
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		sampler := NewSampler(options)
		if err := sampler.Start(); err != nil {
			t.Fatal(err)
		}
		if err := sampler.Start(); err == nil {
			t.Error("started twice")
		}
		before, err := ProcessCPUNs(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		var used int64
		poll(t, "the child burns its CPU time", func() bool {
			now, err := ProcessCPUNs(cmd.Process.Pid)
			used = now - before
			return err == nil && used >= burnNs
		})
		r, err := sampler.Stop()
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // reports the kill
		if r.ElapsedNs <= 0 || r.BusyNs < used/2 {
			t.Errorf("busy %d ns in %d ns, the child alone used %d", r.BusyNs, r.ElapsedNs, used)
		}
		if own && r.OtherLoadNs > r.BusyNs-used/2 {
			t.Errorf("own load counts as other: %d of %d", r.OtherLoadNs, r.BusyNs)
		}
		if !own && r.OtherLoadNs < used/2 {
			t.Errorf("other load %d ns, the child alone used %d", r.OtherLoadNs, used)
		}
	}
}

func TestCgroupCPUNs(t *testing.T) {
	dir := t.TempDir()
	if _, err := CgroupCPUNs(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no cpu.stat: %v", err)
	}
	for text, want := range map[string]int64{"usage_usec 12\nuser_usec 5\n": 12000, "user_usec 5\n": -1, "usage_usec x\n": -1} {
		if err := os.WriteFile(dir+"/cpu.stat", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := CgroupCPUNs(dir)
		if (want < 0) != (err != nil) || (err == nil && got != want) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func BenchmarkSamplerLook(b *testing.B) {
	s := NewSampler(SamplerOptions{})
	if err := s.begin(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.look()
	}
}

func BenchmarkParseCPUTimes(b *testing.B) {
	var text strings.Builder
	for cpu := range 64 {
		fmt.Fprintf(&text, "cpu%d 7476 0 5329 154994 2364 0 467 23 0 0\n", cpu)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseCPUTimes(text.String()); err != nil {
			b.Fatal(err)
		}
	}
}
