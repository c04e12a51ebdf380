package honesty

import "time"

// Transport is a network with a codec that runs on it.
type Transport struct{ Network, Codec string }

// Transports are all that the generator drives.
var Transports = []Transport{
	{"tcp", "frame"}, {"udp", "frame"}, {"unix", "frame"}, {"tcp", "http1"}, {"tcp", "resp"},
}

var (
	openArrivals = []string{"constant", "poisson", "burst"}
	allScripts   = []string{ScriptConstant, ScriptBimodal, ScriptStall}
)

// The load of every case: far below the ceiling, enough requests for p99.9, and
// few enough for a stalled second to fit the sockets' buffers.
const (
	caseRatePerS    = 2_000
	caseBurstLen    = 8
	caseConnections = 16
	caseWarmup      = 100 * time.Millisecond
	quickDuration   = time.Second
	fullDuration    = 2500 * time.Millisecond
	stallDuration   = 2500 * time.Millisecond
	// The stall holds one request a connection: in 5 s a quarter of a percent, so
	// that p99 is a figure of the many others and p99.9 still the stall's.
	closedDuration = 5 * time.Second
)

// Full is every transport under every arrival process and script.
func Full(seed uint64) []Case {
	var cases []Case
	for _, t := range Transports {
		for _, arrival := range openArrivals {
			for _, script := range allScripts {
				cases = append(cases, newCase(t, arrival, script, seed, fullDuration))
			}
		}
	}
	return append(cases, Closed(seed))
}

// Quick is a third of Full, chosen so that every two of transport, arrival
// process and script meet, but for the pairs of transport and script that a
// third can't hold.
func Quick(seed uint64) []Case {
	var cases []Case
	for i, t := range Transports {
		for j, arrival := range openArrivals {
			script := allScripts[(i+j)%len(allScripts)]
			if script == ScriptStall && i >= 3 {
				script = ScriptBimodal // two codecs on tcp, whose stall is seen already
			}
			cases = append(cases, newCase(t, arrival, script, seed, quickDuration))
		}
	}
	return append(cases, Closed(seed))
}

func newCase(t Transport, arrival, script string, seed uint64, duration time.Duration) Case {
	c := Case{
		Network: t.Network, Codec: t.Codec, Arrival: arrival, Script: script, RatePerS: caseRatePerS, BurstLen: caseBurstLen,
		Connections: caseConnections, Warmup: caseWarmup, Duration: duration, Seed: seed,
	}
	if script == ScriptStall {
		c.Duration = stallDuration
	}
	return c
}

// Closed shows what a closed loop makes of the stall: it must measure what a
// closed loop sees, and that hides what the requests of an open one suffer.
func Closed(seed uint64) Case {
	c := newCase(Transport{"tcp", "frame"}, "closed", ScriptStall, seed, closedDuration)
	c.Duration = closedDuration
	return c
}
