// Package honesty holds the load generator against a server whose delays are
// scripted: what it measures must be what the script and the arrival schedule
// give, computed by a dumb simulation.
//
// Three numbers stand beside each other. Expected is computed from the seed and
// the script alone. Logged is what the server really did, by its own record: the
// difference from expected is the server's lateness and the network. Measured is
// what the generator says.
package honesty

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen/arrivals"
	"github.com/nexuscore-labs/nexus/loadgen/schedule"
	"github.com/nexuscore-labs/nexus/loadgen/scriptserver"
)

// Scripts that a Case can name.
const (
	ScriptConstant = "constant"
	ScriptStall    = "stall"
	ScriptBimodal  = "bimodal"
)

// The scripts' times. They are long beside what a network adds, and beside the
// time for which a CPU is taken away from a thread now and then: with a timer of
// 250 Hz that is up to 4 ms, see MeasureFloor. What is within 5% of them is so
// at p99.9 too.
const (
	constantDelay = 40 * time.Millisecond
	fastDelay     = 10 * time.Millisecond
	slowDelay     = 100 * time.Millisecond
	slowShare     = 0.02
	stallTime     = time.Second
)

// ErrorMax is the relative error of a percentile that is put up with.
const ErrorMax = 0.05

// Quantiles are those that are compared, in percent.
var Quantiles = []float64{50, 99, 99.9}

// Case is one run of the generator against one script.
type Case struct {
	Network     string // tcp, udp, unix
	Codec       string // frame, http1, resp
	Arrival     string // constant, poisson, burst, closed
	Script      string
	RatePerS    float64
	BurstLen    int
	Connections int
	Warmup      time.Duration
	Duration    time.Duration
	Seed        uint64
	Stall       time.Duration // of ScriptStall; 0 is a second
}

// Name is the case in a few words.
func (c *Case) Name() string {
	return strings.Join([]string{c.Network, c.Codec, c.Arrival, c.Script}, " ")
}

// script builds the case's script. The stall begins with the first
// connection's first request after a fifth of the measured part.
func (c *Case) script() scriptserver.Script {
	switch c.Script {
	case ScriptStall:
		return scriptserver.Script{Base: fastDelay, Stall: c.stall(), StallFrom: idOf(0, c.stallTurn())}
	case ScriptBimodal:
		return scriptserver.Script{Base: fastDelay, Slow: slowDelay, SlowShare: slowShare, Seed: c.Seed}
	}
	return scriptserver.Script{Base: constantDelay}
}

func (c *Case) stall() time.Duration {
	if c.Stall > 0 {
		return c.Stall
	}
	return stallTime
}

func (c *Case) stallTurn() int {
	fromNs := int64(c.Warmup + c.Duration/5)
	if c.Arrival == "closed" {
		return int(fromNs / int64(fastDelay))
	}
	s, err := schedule.New(c.Arrival, c.RatePerS, c.BurstLen, c.Seed, schedule.Part{Count: c.Connections})
	if err != nil {
		return 0 // plan says the same
	}
	for k := 0; ; k++ {
		if s.Next() >= fromNs {
			return k
		}
	}
}

// Figure compares one percentile.
type Figure struct {
	Quantile    float64 `json:"quantile"` // percent
	ExpectedNs  int64   `json:"expected_ns"`
	LoggedNs    int64   `json:"logged_ns"`
	MeasuredNs  int64   `json:"measured_ns"`
	Error       float64 `json:"error"`        // of measured, relative to expected
	ErrorLogged float64 `json:"error_logged"` // of measured, relative to logged
}

// Off says that the error is too large; NaN is.
func (f Figure) Off() bool { return !(math.Abs(f.Error) <= ErrorMax) }

// Outcome is what one case gave.
type Outcome struct {
	Case     string          `json:"case"`
	Network  string          `json:"network"`
	Codec    string          `json:"codec"`
	Arrival  string          `json:"arrival"`
	Script   string          `json:"script"`
	Requests int             `json:"requests"` // in the measured part, by the schedule
	Answered uint64          `json:"answered"`
	Figures  []Figure        `json:"figures"`
	LagNs    [3]int64        `json:"lag_ns"`            // at Quantiles
	Arrivals []arrivals.Test `json:"arrivals"`          // of the requests as the server saw them
	LateNs   [3]int64        `json:"server_late_ns"`    // at Quantiles: the server's answers after the script's time
	Wrong    string          `json:"wrong,omitempty"`   // other than a figure that is off
	Invalid  []string        `json:"invalid,omitempty"` // what the generator says against its own run
}

// ServerWasLate reports that figures are off and that it was the script's server: by
// its own record, of when requests came and answers left, none is.
func (o *Outcome) ServerWasLate() bool {
	off := false
	for _, f := range o.Figures {
		off = off || f.Off()
		if f.LoggedNs <= 0 || math.IsNaN(f.Error) || !(math.Abs(f.ErrorLogged) <= ErrorMax) {
			return false
		}
	}
	_, failed := arrivals.FirstFailed(o.Arrivals)
	return off && o.Wrong == "" && !failed
}

// Problem says what is wrong with the outcome, in one line; "" for nothing.
func (o *Outcome) Problem() string {
	if o.Wrong != "" {
		return o.Wrong
	}
	for _, f := range o.Figures {
		if f.Off() {
			return fmt.Sprintf("p%g is %v, the script gives %v: %+.1f%%", f.Quantile, time.Duration(f.MeasuredNs).Round(time.Microsecond),
				time.Duration(f.ExpectedNs).Round(time.Microsecond), 100*f.Error)
		}
	}
	if bad, failed := arrivals.FirstFailed(o.Arrivals); failed {
		return "the server saw other arrivals: " + bad.String()
	}
	return ""
}
