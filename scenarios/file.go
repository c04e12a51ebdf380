package scenarios

// The types of this file are the scenario schema: the strict decoder, the
// complaints and the JSON Schema are all made from their tags.
//
//	yaml  the key
//	rule  required, min=…, max=… (in the field's own notation), enum=a|b
//	doc   what editors show

type fileScenario struct {
	Version    int                      `yaml:"version" rule:"required,min=1,max=1" doc:"Version of the scenario schema, 1."`
	Name       string                   `yaml:"name" rule:"required" doc:"Name of the scenario; part of the result."`
	Day        int                      `yaml:"day" rule:"required,min=1,max=999" doc:"The lab's day."`
	Title      string                   `yaml:"title" rule:"required" doc:"One line for the report."`
	Seed       *uint64                  `yaml:"seed" rule:"required" doc:"All randomness comes from it: order of trials, arrivals, payloads, crash points."`
	Storage    string                   `yaml:"storage" rule:"enum=disk|memory" doc:"Where the contenders keep their files; disk when absent. In memory a sync costs nothing: for the cost of code, never for a statement on durability."`
	Workload   fileWorkload             `yaml:"workload" rule:"required" doc:"What the requests look like."`
	Contenders []fileContender          `yaml:"contenders" rule:"required" doc:"Who takes part, by the lab's names."`
	Sizes      fileSizes                `yaml:"sizes" rule:"required" doc:"How often and how long; a point may say otherwise."`
	Points     []filePoint              `yaml:"points" rule:"required" doc:"How the contenders are driven; a list of values is a sweep."`
	Headline   string                   `yaml:"headline" rule:"required" doc:"Id of the point whose numbers stand for a contender in summaries."`
	Overhead   *fileOverhead            `yaml:"probe_overhead" doc:"Measure what the kernel probes cost: extra trials in which they are switched on and off, some hundred times a second."`
	Thresholds []fileThreshold          `yaml:"thresholds" rule:"required" doc:"What must hold."`
	Checks     map[string]fileCheckSize `yaml:"checks" doc:"The lab's experiments beside the trials that run, with their sizes."`
	Validity   *fileValidity            `yaml:"validity" doc:"What makes the run a measurement; with less it is invalid, exit code 5."`
}

type fileValidity struct {
	OracleCoverageMin *float64 `yaml:"oracle_coverage_min" rule:"min=0,max=1" doc:"Share of the answers of each trial that the oracle must have checked; none when absent."`
	OtherLoadMax      *float64 `yaml:"other_load_max" rule:"min=0,max=1" doc:"Share of the pinned CPUs' time that other programs may use in a trial; 0.05 when absent. More than that is a warning of its own."`
	GeneratorBusyMax  *float64 `yaml:"generator_busy_max" rule:"min=0.1,max=2" doc:"Share of its time that a worker of the generator may be busy; 0.95 when absent. More than 1 is for runs whose speed nobody judges, and a warning of its own."`
	StealMax          *float64 `yaml:"steal_max" rule:"min=0,max=1" doc:"Share of a pinned CPU's time that the hypervisor may take in a trial; 0.05 when absent. More than that is a warning of its own."`
}

type fileCheckSize map[string]byMode[quantity]

type fileWorkload struct {
	Transport  string            `yaml:"transport" rule:"required,enum=unix|tcp|udp" doc:"How requests reach the contender."`
	Codec      string            `yaml:"codec" rule:"required,enum=frame|http1|resp" doc:"How requests are put into bytes."`
	Network    string            `yaml:"network" rule:"enum=host|veth|veth-inline" doc:"Where the contender is served: on the host's own loopback (host, also when absent), or in a network namespace, joined to the generator's by a pair of virtual Ethernet interfaces. veth: packets are worked on by threads on the CPUs of the end that they arrive at, and charged to it. veth-inline: on the CPU that sends them, at once, and charged to nobody."`
	Tenants    byMode[int]       `yaml:"tenants" rule:"required,min=1,max=1000000" doc:"Number of tenants."`
	Popularity Popularity        `yaml:"popularity" rule:"required" doc:"How often each tenant or key is chosen: zipf(s), uniform, sequential."`
	Record     SizeRange         `yaml:"record" rule:"required,max=16MiB" doc:"Size of a record: a size, uniform(a, b) or loguniform(a, b)."`
	Params     map[string]string `yaml:"params" doc:"The lab's own parameters."`
}

type fileContender struct {
	Name   string            `yaml:"name" rule:"required" doc:"The lab's name for it."`
	Modes  []string          `yaml:"modes" rule:"enum=quick|full" doc:"Modes in which it takes part; both when absent."`
	Warmup byMode[span]      `yaml:"warmup" rule:"min=0s,max=10m" doc:"Load before the measured part of its trials, where that is more than the point's."`
	Params map[string]string `yaml:"params" doc:"Handed to the contender."`
	// A real server speaks its own protocol.
	Transport string `yaml:"transport" rule:"enum=unix|tcp|udp" doc:"In place of the workload's, for this contender."`
	Codec     string `yaml:"codec" rule:"enum=frame|http1|resp" doc:"In place of the workload's, for this contender."`
}

type fileSizes struct {
	Trials   byMode[int]  `yaml:"trials" rule:"required,min=1,max=1000" doc:"Trials of each contender at each point."`
	Warmup   byMode[span] `yaml:"warmup" rule:"required,min=0s,max=10m" doc:"Load before the measured part of a trial."`
	Duration byMode[span] `yaml:"duration" rule:"required,min=10ms,max=1h" doc:"Measured part of a trial."`
	Timeout  byMode[span] `yaml:"timeout" rule:"required,min=1ms,max=10m" doc:"Of one request."`
}

type filePoint struct {
	Name        string             `yaml:"name" rule:"required" doc:"Name; with the swept values it is the point's id."`
	Modes       []string           `yaml:"modes" rule:"enum=quick|full" doc:"Modes in which it is run; both when absent."`
	Arrival     string             `yaml:"arrival" rule:"required,enum=constant|poisson|burst|closed" doc:"How requests arrive; closed: each writer sends when it has its answer, which hides queueing."`
	Rate        byMode[many[rate]] `yaml:"rate" rule:"min=1/s,max=100M/s" doc:"Offered rate; not for closed."`
	Load        *fileLoad          `yaml:"load" doc:"Where no rate is given: a share of what a contender bears on this machine, measured before the first trial and rounded to one of ten steps a decade."`
	Transport   string             `yaml:"transport" rule:"enum=unix|tcp|udp" doc:"In place of the workload's."`
	Network     string             `yaml:"network" rule:"enum=host|veth|veth-inline" doc:"In place of the workload's."`
	Stages      bool               `yaml:"stages" doc:"Break the latency down into stages, from packets and threads; not over unix sockets."`
	Burst       *int               `yaml:"burst" rule:"min=1,max=100000" doc:"Arrivals per burst; only for burst."`
	Writers     byMode[many[int]]  `yaml:"writers" rule:"required,min=1,max=1000000" doc:"Logical writers; the requests of one keep their order."`
	Tenants     byMode[many[int]]  `yaml:"tenants" rule:"min=1,max=1000000" doc:"In place of the workload's."`
	Record      byMode[many[size]] `yaml:"record" rule:"min=1B,max=16MiB" doc:"Constant record size in place of the workload's."`
	Sweep       fileSweep          `yaml:"sweep" doc:"Params of the workload, each with the whole numbers that it takes in turn."`
	Params      map[string]string  `yaml:"params" doc:"Added to the workload's, in place of those of the same name."`
	Connections byMode[int]        `yaml:"connections" rule:"required,min=1,max=65536" doc:"Connections that the writers share."`
	InFlight    *int               `yaml:"in_flight" rule:"min=1,max=1000000" doc:"Unanswered requests per connection at most; 4096 when absent. What waits for it is counted."`
	Contenders  byMode[[]string]   `yaml:"contenders" doc:"Those that run here; all when absent."`
	Trials      byMode[int]        `yaml:"trials" rule:"min=1,max=1000" doc:"In place of sizes.trials."`
	Warmup      byMode[span]       `yaml:"warmup" rule:"min=0s,max=10m" doc:"In place of sizes.warmup."`
	Duration    byMode[span]       `yaml:"duration" rule:"min=10ms,max=1h" doc:"In place of sizes.duration."`
	Timeout     byMode[span]       `yaml:"timeout" rule:"min=1ms,max=10m" doc:"In place of sizes.timeout."`
}

type fileLoad struct {
	Share     *float64 `yaml:"share" rule:"required,min=0.01,max=0.95" doc:"Of the contender's throughput; with more of it the queue has no end."`
	Contender string   `yaml:"contender" rule:"required" doc:"Whose throughput."`
	Point     string   `yaml:"point" rule:"required" doc:"Id of the point, one with a closed loop, that gives it."`
}

// fileSweep are params that a point sweeps, by name.
type fileSweep map[string]byMode[many[int]]

type fileOverhead struct {
	Contender string       `yaml:"contender" rule:"required" doc:"Whose trials the probes are switched on and off in."`
	Point     string       `yaml:"point" rule:"required" doc:"Id of the point."`
	Trials    byMode[int]  `yaml:"trials" rule:"required,min=1,max=1000" doc:"How many such trials, beside the point's own."`
	Duration  byMode[span] `yaml:"duration" rule:"required,min=100ms,max=1h" doc:"Measured part of each, in place of the point's."`
}

type fileThreshold struct {
	ID          string           `yaml:"id" rule:"required" doc:"Its name in results."`
	Doc         string           `yaml:"doc" rule:"required" doc:"The rule in one sentence."`
	Class       string           `yaml:"class" rule:"required,enum=gate|lesson" doc:"gate must hold on every machine; lesson is reported and fails nothing."`
	Modes       []string         `yaml:"modes" rule:"enum=quick|full" doc:"Modes in which it is judged; both when absent."`
	Metric      string           `yaml:"metric" rule:"required" doc:"What is limited: a number of the trials (with a point) or of a check (without)."`
	Point       string           `yaml:"point" doc:"Id of the point."`
	Subject     string           `yaml:"subject" doc:"Whose number it is."`
	Against     string           `yaml:"against" doc:"Limit the ratio to this contender; peers: to each peer, and the hardest counts."`
	Compare     string           `yaml:"compare" rule:"required,enum=>=|<=|==" doc:"value <compare> limit."`
	Limit       byMode[quantity] `yaml:"limit" rule:"required" doc:"A number, with a unit where it has one."`
	Unit        string           `yaml:"unit" rule:"required,enum=ratio|count|ns|bytes|per_s|bytes_per_s" doc:"The canonical unit of value and limit."`
	CoverageMin *float64         `yaml:"coverage_min" rule:"min=0,max=1" doc:"Share of the answers that the oracle must have checked."`
}

// byMode is a value given once, or as {quick: …, full: …}.
type byMode[T any] struct {
	quick, full T
	set         bool
}

func (b *byMode[T]) of(mode string) T {
	if mode == ModeQuick {
		return b.quick
	}
	return b.full
}

// or returns the value for mode, or that of another when this one is absent.
func (b *byMode[T]) or(other *byMode[T], mode string) T {
	if b.set {
		return b.of(mode)
	}
	return other.of(mode)
}

// many is one value or a list of them; a list makes a sweep.
type many[T any] struct {
	values []T
	listed bool
}
