package reports

// ProbeCost is what a trial found out about the cost of the kernel probes, by
// throwing their switch to and fro in short slices. All ratios are above 1 when
// the probes cost something.
type ProbeCost struct {
	SliceNs  int64 `json:"slice_ns"`  // measured part of a slice
	SettleNs int64 `json:"settle_ns"` // passed over after each throw
	// CPUShare is the CPU time of the contender's process per elapsed time, with
	// the probes off: near 1 its CPU is the limit.
	CPUShare float64 `json:"cpu_share"`
	// Switched compares probes that count with probes that are attached and off,
	// Attached the latter with none attached. Each pair is a block of four slices,
	// two and two, in the order of time.
	Switched []CostPair `json:"switched"`
	Attached []CostPair `json:"attached,omitempty"`
	// Accounted is the kernel's own account of the programs' run time.
	Accounted *AccountedCost `json:"accounted,omitempty"`
}

// CostPair holds the ratios of one block of slices.
type CostPair struct {
	CPU        float64 `json:"cpu"`        // CPU time per operation, with over without
	Throughput float64 `json:"throughput"` // operations per second, without over with
}

// AccountedCost is what BPF's statistics say. The clock that they read twice
// for each run is in the run times, on and off alike: only differences of the
// two are free of it.
type AccountedCost struct {
	CPUNsPerOp float64          `json:"cpu_ns_per_op"` // of the contender, probes off
	Programs   []ProgramAccount `json:"programs"`
}

// ProgramAccount is one program's account, per operation of the contender.
type ProgramAccount struct {
	Probe   string  `json:"probe"`
	Program string  `json:"program"`
	On      RunCost `json:"on"`
	Off     RunCost `json:"off"`
}

// RunCost is how often a program ran per operation, and for how long in all.
type RunCost struct {
	RunsPerOp float64 `json:"runs_per_op"`
	NsPerOp   float64 `json:"ns_per_op"`
}

// Ratio is 1 + the programs' share of the contender's CPU time.
func (a *AccountedCost) Ratio() float64 {
	sum := 0.0
	for _, p := range a.Programs {
		sum += p.On.NsPerOp - p.Off.NsPerOp
	}
	return 1 + sum/a.CPUNsPerOp
}
