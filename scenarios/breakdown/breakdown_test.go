package breakdown

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/nexuscore-labs/nexus/bpf/stages"
	"github.com/nexuscore-labs/nexus/loadgen"
)

// recorded invents n requests over UDP, one after the other, and the log that
// belongs to them; drop says which requests' answers are missing from it.
func recorded(n int, drop func(latencyNs int64) bool) (*loadgen.Result, *stages.Log) {
	random := rand.New(rand.NewPCG(1, 9))
	load := &loadgen.Result{Latency: hdrhistogram.New(1, 3600e9, 3)}
	log := &stages.Log{}
	const port, thread = 4000, 7
	log.Events = append(log.Events, stages.Event{Ns: 1, Kind: stages.In, Who: thread})
	at := int64(1000)
	for id := range uint64(n) {
		work := int64(math.Exp(10 + random.NormFloat64()))
		packet := func(ns int64, kind stages.EventKind) {
			log.Events = append(log.Events, stages.Event{Ns: ns, Kind: kind, Flags: stages.Datagram, Who: port, Value: id, Other: thread})
		}
		end := at + 50 + work
		packet(at+20, stages.ClientTx)
		packet(at+30, stages.ServerRx)
		packet(end-20, stages.ServerTx)
		if !drop(end - at) {
			packet(end-10, stages.ClientRx)
		}
		load.Traced = append(load.Traced, loadgen.Traced{Port: port, ID: id, IntendedNs: at, SentNs: at + 10, AnsweredNs: end})
		load.Completed++
		if err := load.Latency.RecordValue(end - at); err != nil {
			panic(err)
		}
		at = end + 100
	}
	return load, log
}

func TestBandsHoldEveryAnswerAndAddUp(t *testing.T) {
	const n = 20_000
	b := Of(recorded(n, func(int64) bool { return false }))
	total := uint64(0)
	for i, band := range b.Bands {
		total += band.Requests
		if band.Joined != band.Requests {
			t.Errorf("band %d: %d joined of %d", i, band.Joined, band.Requests)
		}
		share := float64(band.Requests) / n
		if want := (band.ToPercentile - band.FromPercentile) / 100; math.Abs(share-want) > 0.01 {
			t.Errorf("band %d holds %.4f of the answers, want %.4f", i, share, want)
		}
	}
	if total != n || b.Joined != n {
		t.Errorf("%d answers in bands, %d joined, want %d", total, b.Joined, n)
	}
	// The histogram keeps three digits.
	if worst := b.ErrorShareMax(); !(worst < 0.002) {
		t.Errorf("off by %v", worst)
	}
}

// A log that lost the slow half of a band doesn't add up to what the client saw.
func TestABiasedJoinShows(t *testing.T) {
	load, _ := recorded(20_000, func(int64) bool { return false })
	cut := load.Latency.ValueAtQuantile(99.95)
	b := Of(recorded(20_000, func(ns int64) bool { return ns > cut }))
	if b.Joined >= b.Requests {
		t.Fatal("nothing is missing")
	}
	if worst := b.ErrorShareMax(); !(worst > 0.05) {
		t.Errorf("off by only %v although the slowest are missing", worst)
	}
}

func TestABandWithoutJoinedRequestsIsNotMeasured(t *testing.T) {
	load, _ := recorded(20_000, func(int64) bool { return false })
	cut := load.Latency.ValueAtQuantile(90)
	b := Of(recorded(20_000, func(ns int64) bool { return ns > cut }))
	if !math.IsNaN(b.ErrorShareMax()) {
		t.Errorf("off by %v, want not a number: bands have no request that was followed", b.ErrorShareMax())
	}
}
