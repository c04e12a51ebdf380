package reports

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// The fixture is invented: it has the shape of a Day 7 run, so that the writers
// have something to write. Nothing in it was measured, and it says so.

type fixtureContender struct {
	name, role string
	ceiling    float64 // answers per second with 256 writers
	serviceNs  float64
	spread     float64 // of the logarithm of the latency
}

var fixtureContenders = []fixtureContender{
	{"seglog", RoleSubject, 61_000, 2.1e6, 0.25},
	{"fsync-append", RoleBaseline, 2_100, 95e6, 0.5},
	{"tenant-files", RoleBaseline, 3_300, 62e6, 0.7},
	{"pebble", RolePeer, 38_000, 5.2e6, 0.4},
	{"bbolt", RolePeer, 1_900, 120e6, 0.3},
}

type fixturePoint struct {
	name    string
	arrival string
	sweep   map[string]float64
	load    float64 // share of the contender's ceiling that this point reaches
}

var fixturePoints = []fixturePoint{
	{"w1", "closed", map[string]float64{"writers": 1}, 0.02},
	{"w16", "closed", map[string]float64{"writers": 16}, 0.2},
	{"w256", "closed", map[string]float64{"writers": 256}, 1},
	{"r1k", "poisson", map[string]float64{"rate_per_s": 1000}, 0.3},
}

const fixtureRounds = 5

type fixtureKey struct {
	seed  uint64
	speed float64
}

var fixtures = map[fixtureKey]*Result{} // tests here don't run in parallel

// fixture is deterministic in seed; speed scales the subject's throughput. The
// caller may change the result and the elements of its slices.
func fixture(t testing.TB, seed uint64, speed float64) *Result {
	t.Helper()
	key := fixtureKey{seed, speed}
	if fixtures[key] == nil {
		fixtures[key] = newFixture(t, seed, speed)
	}
	r := *fixtures[key]
	r.Reasons, r.Contenders, r.Gates, r.LessonThresholds = slices.Clone(r.Reasons), slices.Clone(r.Contenders), slices.Clone(r.Gates), slices.Clone(r.LessonThresholds)
	r.Claims, r.Points, r.Trials, r.Metrics = slices.Clone(r.Claims), slices.Clone(r.Points), slices.Clone(r.Trials), slices.Clone(r.Metrics)
	return &r
}

func newFixture(t testing.TB, seed uint64, speed float64) *Result {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 7))
	r := fixtureHead(seed)
	for _, c := range fixtureContenders {
		r.Contenders = append(r.Contenders, ContenderResult{
			Name: c.name, Role: c.role, Version: "fixture", Doc: "invented " + c.role + " for tests", Durability: "after fdatasync",
		})
	}
	order := 0
	for round := range fixtureRounds {
		for _, p := range fixturePoints {
			for _, c := range fixtureContenders {
				if c.role == RoleSubject {
					c.ceiling *= speed
				}
				r.Trials = append(r.Trials, fixtureTrial(t, random, c, p, round, order))
				order++
			}
		}
	}
	r.Warnings = []string{"the run's own doubt (fixture)"}
	for _, i := range []int{0, 20, 41} {
		r.Trials[i].Warnings = []string{"a trial's doubt (fixture)"}
	}
	void := &r.Trials[3]
	void.Status, void.Reason = "invalid", "the generator was saturated (fixture)"
	fixturePointResults(r, seed)
	fixtureVerdicts(r, seed)
	return r
}

func fixtureHead(seed uint64) *Result {
	return &Result{
		SchemaVersion: SchemaVersion, Day: 7, Lab: "day07", Title: "Append-only segment log (FIXTURE)",
		Question: "FIXTURE, nothing measured: how many durable appends per second does group commit give over an fsync per append?",
		Scenario: "scenarios/day07/writers.yaml", ScenarioHash: "f1x7u3e000000000000000000000000000000000000000000000000000000000", Mode: "quick", Seed: seed,
		StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), ElapsedNs: 41_500_000_000,
		Command: fmt.Sprintf("nexus run day07 --mode quick --seed %d", seed),
		Verdict: VerdictFail, Reasons: []string{"gate p99-vs-baseline: 0.31× is above the limit of 0.2×"},
		Oracle:      OracleResult{Checked: 1_234_567, Note: "every acknowledged record read back in order"},
		MeasuredBy:  []string{"syscall: tp_btf sys_enter/sys_exit", "runqueue: tp_btf sched_wakeup, sched_switch", "block: tp_btf block_rq_issue, block_rq_complete", "probe overhead: 1.4% of throughput (on/off)"},
		NotMeasured: []string{"hardware counters: no PMU on this machine", "inode lock wait: kprobes are not compiled in"},
		Environment: Environment{
			Hostname: "fixture", Kernel: "6.18.0", Arch: "amd64", CPUModel: "Invented CPU @ 2.00GHz", CPUs: 2, MemoryBytes: 24 << 30,
			Filesystem: "ext4", Disk: "virtio", Governor: "", Virtual: "kvm", GoVersion: "go1.26.8", NexusVersion: "fixture",
			CPUPlan: map[string][]int{"generator": {1}, "contender": {0}}, Tools: map[string]string{"clang": "19.1.7"},
		},
		Metrics: []Metric{
			{Name: "recovery_bytes_per_s", Value: 1.62e9, CI: &Interval{Center: 1.62e9, Lo: 1.55e9, Hi: 1.7e9, Confidence: 0.95, N: 5}, Unit: "bytes/s", Doc: "page-cached log read by recovery", Source: "recovery"},
			{Name: "crash_points", Value: 100, Unit: "count", Doc: "seeded crash points that were tried", Source: "crash"},
		},
	}
}

func fixtureTrial(t testing.TB, random *rand.Rand, c fixtureContender, p fixturePoint, round, order int) Trial {
	noise := math.Exp(0.03 * random.NormFloat64())
	throughput, median := c.ceiling*p.load*noise, c.serviceNs*math.Sqrt(p.load)/noise
	if p.arrival != "closed" {
		throughput = p.sweep["rate_per_s"]
	}
	latency := hdrhistogram.New(1000, 10_000_000_000, 2)
	const samples = 2000
	for range samples {
		ns := median * math.Exp(c.spread*random.NormFloat64())
		if random.IntN(400) == 0 {
			ns *= 6
		}
		if err := latency.RecordValue(min(int64(ns), 9_999_999_999)); err != nil {
			t.Fatal(err)
		}
	}
	encoded, err := EncodeHistogram(latency)
	if err != nil {
		t.Fatal(err)
	}
	const elapsed = 2_000_000_000
	completed := uint64(throughput * elapsed / 1e9)
	trial := Trial{
		Contender: c.name, Point: p.name, Sweep: p.sweep, Round: round, Order: order, Status: "ok",
		StartedAt: time.Date(2026, 1, 2, 3, 5, order, 0, time.UTC), ElapsedNs: elapsed, Arrival: p.arrival, OfferedPerS: p.sweep["rate_per_s"],
		ThroughputPerS: throughput, LatencyNs: LatencyOf(latency), ServiceNs: LatencyOf(latency), LagNs: Latency{Count: samples, Mean: 8000, P50: 7000, P90: 11000, P99: 20000, P999: 44000, Max: 91000},
		Histograms: Histogram{LatencyHDR: encoded, ServiceHDR: encoded},
		Counts:     Counts{Intended: completed, Sent: completed, Completed: completed},
		Oracle:     OracleResult{Checked: completed},
		Generator:  Generator{CPUNs: elapsed / 3, BusyShare: 0.33, Features: []string{"multishot_recv", "fixed_file"}},
		Resources: Resources{
			UserNs: int64(float64(completed) * 4000), SystemNs: int64(float64(completed) * 9000 * noise), RSSMaxBytes: int64(48e6 * noise),
			VoluntarySwitches: int64(completed / 7), InvoluntarySwitches: int64(completed / 90), MinorFaults: 900, WriteBytes: int64(completed) * 540,
		},
		System: map[string]float64{"batch_records": 61},
	}
	trial.Kernel = fixtureKernel(random, c, completed)
	for i := range 20 {
		trial.Timeline = append(trial.Timeline, Tick{
			OffsetNs: int64(i+1) * elapsed / 20, Completed: uint64(float64(completed) / 20 * math.Exp(0.08*random.NormFloat64())),
			P50Ns: int64(median), P99Ns: int64(median * 2.2 * math.Exp(0.3*random.NormFloat64())),
		})
	}
	if c.role == RoleSubject {
		trial.Events = []Event{{OffsetNs: 600_000_000, Name: "segment rolled"}, {OffsetNs: 1_500_000_000, Name: "segment rolled"}}
	}
	return trial
}

func fixtureKernel(random *rand.Rand, c fixtureContender, completed uint64) []KernelHistogram {
	var all []KernelHistogram
	for _, probe := range []struct {
		probe, label string
		ns, perOp    float64
	}{
		{"syscall", "fdatasync", c.serviceNs * 0.8, 0.02}, {"syscall", "write", 9000, 1}, {"syscall", "io_uring_enter", 21000, 0.1},
		{"runqueue", "all threads", 14000, 0.4}, {"offcpu", "all threads", 700000, 0.3}, {"block", "write", 410000, 0.03}, {"uring", "fsync", c.serviceNs * 0.7, 0.01},
	} {
		h := KernelHistogram{Probe: probe.probe, Label: probe.label, Unit: "ns"}
		buckets := map[int]uint64{}
		for range 300 {
			ns := probe.ns * math.Exp(0.6*random.NormFloat64())
			buckets[int(math.Log2(ns)*8)]++
		}
		for k := range 400 {
			if buckets[k] == 0 {
				continue
			}
			n := uint64(float64(buckets[k]) * float64(completed) * probe.perOp / 300)
			lo, hi := math.Exp2(float64(k)/8), math.Exp2(float64(k+1)/8)
			h.Buckets = append(h.Buckets, KernelBucket{Lo: lo, Hi: hi, Count: n})
			h.Count, h.Sum = h.Count+n, h.Sum+float64(n)*(lo+hi)/2
			h.Max = hi
		}
		h.P50, h.P99 = h.quantile(0.5), h.quantile(0.99)
		all = append(all, h)
	}
	return all
}

func fixturePointResults(r *Result, seed uint64) {
	for _, p := range fixturePoints {
		for i := range r.Contenders {
			c := &r.Contenders[i]
			point := PointResult{Contender: c.Name, Point: p.name, Sweep: p.sweep, LatencyNs: map[string]Interval{}}
			var rate, cpu []float64
			percentiles := map[string][]float64{}
			var all []*hdrhistogram.Histogram
			for k := range r.Trials {
				t := &r.Trials[k]
				if t.Contender != c.Name || t.Point != p.name {
					continue
				}
				if t.Status != "ok" {
					point.Invalid++
					continue
				}
				point.Trials++
				rate, cpu = append(rate, t.ThroughputPerS), append(cpu, *t.cpuNsPerOp())
				for name, v := range map[string]int64{"p50": t.LatencyNs.P50, "p90": t.LatencyNs.P90, "p99": t.LatencyNs.P99, "p999": t.LatencyNs.P999} {
					percentiles[name] = append(percentiles[name], float64(v))
				}
				h, err := DecodeHistogram(t.Histograms.LatencyHDR)
				if err == nil {
					all = append(all, h)
				}
			}
			point.ThroughputPerS, point.CPUNsPerOp = stats.MedianCI(rate, seed).Ptr(), stats.MedianCI(cpu, seed).Ptr()
			for name, values := range percentiles {
				point.LatencyNs[name] = stats.MedianCI(values, seed)
			}
			if merged, err := MergeHistograms(all...); err == nil {
				point.Pooled = LatencyOf(merged)
			}
			r.Points = append(r.Points, point)
			if p.name == "w256" && c.Name != "bbolt" {
				center, pooled := point.ThroughputPerS.Center, point.Pooled
				c.ThroughputPerS, c.LatencyNs = &center, &pooled
			}
		}
	}
}

func fixtureVerdicts(r *Result, seed uint64) {
	sample := func(contender, point string, read func(*Trial) float64) (values []float64) {
		for i := range r.Trials {
			if t := &r.Trials[i]; t.Contender == contender && t.Point == point && t.Status == "ok" {
				values = append(values, read(t))
			}
		}
		return values
	}
	rate := func(t *Trial) float64 { return t.ThroughputPerS }
	p99 := func(t *Trial) float64 { return float64(t.LatencyNs.P99) }
	faster := stats.RatioCI(sample("seglog", "w256", rate), sample("fsync-append", "w256", rate), seed)
	slower := Interval{Center: 0.31, Lo: 0.28, Hi: 0.36, Confidence: 0.95, N: 5}
	absolute := stats.MedianCI(sample("seglog", "r1k", p99), seed)
	r.Gates = []ThresholdResult{
		{ID: "throughput-vs-baseline", Doc: "durable appends/s, 256 writers", Status: "pass", Value: &faster.Center, CI: &faster, Limit: 20, Compare: ">=", Unit: "ratio", Metric: "throughput", Point: "w256", Subject: "seglog", Against: "fsync-append"},
		{ID: "p99-vs-baseline", Doc: "p99 at equal offered load", Status: "fail", Value: &slower.Center, CI: &slower, Limit: 0.2, Compare: "<=", Unit: "ratio", Metric: "latency_p99", Point: "r1k", Subject: "seglog", Against: "fsync-append", Why: "0.31× is above the limit of 0.2×"},
	}
	r.LessonThresholds = []ThresholdResult{
		{ID: "sub-millisecond", Doc: "p99 of an acknowledged write", Status: "not_held", Value: &absolute.Center, CI: &absolute, Limit: 1e6, Compare: "<=", Unit: "ns", Metric: "latency_p99", Point: "r1k", Subject: "seglog", Why: "the disk takes longer"},
		{ID: "tlb", Doc: "TLB misses per append", Status: "not_measured", Limit: 1, Compare: "<=", Unit: "count", Metric: "tlb_misses", Subject: "seglog", Why: "no hardware counters on this machine"},
	}
	r.Claims = []ClaimResult{
		{ID: "append-queues", Statement: "O_APPEND writers queue on the inode lock.", Verdict: "held", Evidence: "256 writers to one file took 3.1× as long per write as to 256 files (fixture).", Command: "nexus claims day07 --only append-queues"},
		{ID: "pcid", Statement: "Every context switch flushes the TLB.", Verdict: "not_measurable", Evidence: "no PMU on this machine", Command: "nexus claims day07 --only pcid"},
		{ID: "fsync-serialises", Statement: "fsync per write serialises all tenants | even unrelated ones.", Verdict: "refuted", Evidence: "4 files ran 2.7× as fast as 1 (fixture).", Command: "nexus claims day07 --only fsync-serialises"},
	}
}
