// Package ceiling measures the most that the load generator can do: verified
// requests per CPU second against a server that answers at once.
package ceiling

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/codec"
	"github.com/nexuscore-labs/nexus/loadgen/nullserver"
)

// Point is what a ceiling holds for.
type Point struct {
	Network string `json:"network"`
	Codec   string `json:"codec"`
	Depth   int    `json:"depth"` // requests in flight per connection
}

func (p Point) String() string { return fmt.Sprintf("%s %s depth %d", p.Network, p.Codec, p.Depth) }

// Connections is how many each measurement uses; over UDP fewer, see connections.
const Connections = 64

// datagramsMax are in flight together at most: what a socket's buffer of the
// default size holds (212,992 bytes, 768 for each small datagram), so that none
// is lost. A lost one would hold its place in the pipeline until it times out.
const datagramsMax = 256

func (p Point) connections() int {
	if p.Network == "udp" {
		return min(Connections, datagramsMax/p.Depth)
	}
	return Connections
}

// Depths that are measured: one request at a time per connection, and a pipeline.
const (
	DepthOne  = 1
	DepthDeep = 16
)

// Points lists what is measured.
func Points() []Point {
	var points []Point
	for _, t := range []struct{ network, codec string }{
		{"tcp", "frame"}, {"udp", "frame"}, {"unix", "frame"}, {"tcp", "http1"}, {"unix", "http1"}, {"tcp", "resp"}, {"unix", "resp"},
	} {
		for _, depth := range []int{DepthOne, DepthDeep} {
			points = append(points, Point{t.network, t.codec, depth})
		}
	}
	return points
}

// Ceiling is the most that one worker reached at a point.
type Ceiling struct {
	Point
	PerCPUSecond float64 `json:"per_cpu_s"` // verified requests per second of the generator's CPU time
	PerSecond    float64 `json:"per_s"`     // per second of wall time, on one core; the server may have been the limit
	BusyShare    float64 `json:"busy_share"`
	Runs         int     `json:"runs"`
}

// Limiter says what kept PerSecond from being more.
func (c Ceiling) Limiter() string {
	if c.BusyShare >= 0.95 {
		return "generator"
	}
	return "server"
}

// CPUs says where generator and server run; below 0: not pinned.
type CPUs struct{ Generator, Server int }

// Measure runs a point several times in a closed loop and keeps the best of
// each figure: what disturbs a run only lowers it. The error names wrong and
// missing answers too.
func Measure(ctx context.Context, p Point, cpus CPUs, duration time.Duration, runs int) (Ceiling, error) {
	best := Ceiling{Point: p}
	for range runs {
		r, err := run(ctx, p, cpus, duration)
		if err != nil {
			return best, fmt.Errorf("ceiling of %s: %w", p, err)
		}
		if r.CPUNs == 0 || r.ElapsedNs == 0 {
			continue
		}
		best.Runs++
		best.PerCPUSecond = max(best.PerCPUSecond, float64(r.Answered)/(float64(r.CPUNs)/1e9))
		if perS := float64(r.Answered) / (float64(r.ElapsedNs) / 1e9); perS > best.PerSecond {
			best.PerSecond, best.BusyShare = perS, r.BusyShare
		}
	}
	if best.Runs == 0 {
		return best, fmt.Errorf("ceiling of %s: no run measured anything", p)
	}
	return best, nil
}

func run(ctx context.Context, p Point, cpus CPUs, duration time.Duration) (r *loadgen.Result, err error) {
	address := "127.0.0.1:0"
	if p.Network == "unix" {
		dir, err := os.MkdirTemp("", "nexus-ceiling-")
		if err != nil {
			return nil, fmt.Errorf("make a folder for the socket: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		address = filepath.Join(dir, "s")
	}
	server, err := nullserver.Start(nullserver.Config{Network: p.Network, Address: address, Protocol: p.Codec, CPU: cpus.Server})
	if err != nil {
		return nil, err
	}
	var pin []int
	if cpus.Generator >= 0 {
		pin = []int{cpus.Generator}
	}
	r, err = loadgen.Run(ctx, loadgen.Config{
		Target: loadgen.Target{Network: server.Network, Address: server.Address}, Codec: p.Codec, Arrival: "closed",
		Streams: p.connections() * p.Depth, Connections: p.connections(), Warmup: duration / 10, Duration: duration,
		Timeout: 2 * time.Second, CPUs: pin, Source: NewSource(p.Codec),
	})
	if err = errors.Join(err, server.Close()); err != nil {
		return r, err
	}
	if r.Wrong > 0 {
		return r, fmt.Errorf("%w: %d wrong answers: %s", loadgen.ErrNotRight, r.Wrong, r.FirstWrong)
	}
	// A datagram may be lost; every other request must be answered.
	if lost := r.Errors + r.Timeouts; lost > 0 && p.Network != "udp" || lost > r.Sent/100 {
		return r, fmt.Errorf("%w: %d of %d requests got no right answer: %s", loadgen.ErrNotRight, lost, r.Sent, r.FirstError)
	}
	return r, nil
}

// source states the cheapest request of a codec that the null server answers,
// and verifies every answer. For frames each is different.
type source struct {
	op   loadgen.Op
	want string
	n    uint64
	body [8]byte
}

// NewSource returns the null server's counterpart for a codec.
func NewSource(codecName string) loadgen.Source {
	switch codecName {
	case "http1":
		return &source{op: loadgen.Op{Kind: codec.HTTPGet, Key: []byte("/")}, want: "ok"}
	case "resp":
		return &source{op: loadgen.Op{Kind: codec.RESPGet, Key: []byte("k")}, want: "OK"}
	}
	return &source{op: loadgen.Op{Kind: uint8(frame.KindPing)}}
}

// Fork implements loadgen.Forker.
func (s *source) Fork(worker, workers int) loadgen.Source {
	return &source{op: s.op, want: s.want, n: uint64(worker) << 48}
}

// Next implements loadgen.Source.
func (s *source) Next(stream uint32, op *loadgen.Op) {
	*op = s.op
	op.Stream = stream
	if s.want == "" {
		s.n++
		op.Token = s.n
		binary.LittleEndian.PutUint64(s.body[:], s.n)
		op.Body = s.body[:]
	}
}

// Check implements loadgen.Source.
func (s *source) Check(_ uint32, token uint64, reply *loadgen.Reply) loadgen.Judgement {
	switch {
	case reply == nil:
		return loadgen.Wrong // ignored
	case reply.Status != 0:
		return loadgen.Refused
	case s.want != "":
		if string(reply.Body) != s.want {
			return loadgen.Wrong
		}
	case len(reply.Body) != 8 || binary.LittleEndian.Uint64(reply.Body) != token:
		return loadgen.Wrong
	}
	return loadgen.Right
}
