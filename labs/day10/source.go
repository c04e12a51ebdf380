package day10

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/codec"
	"github.com/nexuscore-labs/nexus/loadgen/keys"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// Names of workload.params.
const (
	paramProjections = "projections" // numbers, with spaces between
	paramEvents      = "events"      // of each tenant when a trial begins
	paramMore        = "more_events" // of each tenant that come during it
	paramUpdates     = "updates_per_s"
)

// shape reads what workload.params say of the data.
func shape(params map[string]string, tenants int) (dataset, []uint32, error) {
	d := dataset{seed: 10, tenants: tenants}
	for name, into := range map[string]*int{paramEvents: &d.base, paramMore: &d.more} {
		text, given := params[name]
		if !given {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return d, nil, fmt.Errorf("workload.params.%s: %q is no number of events", name, text)
		}
		*into = n
	}
	if d.base < 1 {
		return d, nil, fmt.Errorf("workload.params.%s: each tenant needs an event", paramEvents)
	}
	var projections []uint32
	for _, field := range strings.Fields(params[paramProjections]) {
		n, err := strconv.ParseUint(field, 10, 32)
		if err != nil {
			return d, nil, fmt.Errorf("workload.params.%s: %w", paramProjections, err)
		}
		projections = append(projections, uint32(n))
	}
	if len(projections) == 0 {
		return d, nil, fmt.Errorf("workload.params.%s: none", paramProjections)
	}
	return d, projections, nil
}

// source asks for projections and compares every answer, byte for byte, with what
// the oracle says. Each stream's state is its own.
type source struct {
	expected *expected
	codec    string
	lens     []int // of requests' bodies, by projection
	readers  []reader
}

type reader struct {
	tenants, projections keys.Picker
	body                 []byte
	key                  []byte
	newest               []int // events beyond base, that were answered last, by tenant and projection
	problem              string
	checked              uint64
}

// bodyLens are how long padded requests' bodies are, in bytes, by projection: a
// reader knows how long answers were so far, not how long the next one will be, so
// it takes the longest of any tenant.
func bodyLens(e *expected) []int {
	longest := make([]int, len(e.projections))
	for _, tenant := range e.answers {
		for i, projection := range tenant {
			for _, body := range projection {
				longest[i] = max(longest[i], len(body))
			}
		}
	}
	return longest
}

func newTrialSource(spec scenarios.TrialSpec) (loadgen.Source, error) {
	w := spec.Workload
	d, projections, err := shape(w.Params, w.Tenants)
	if err != nil {
		return nil, err
	}
	e, err := expect(d, projections)
	if err != nil {
		return nil, err
	}
	s := &source{expected: e, codec: w.Codec, readers: make([]reader, spec.Point.Writers)}
	s.lens = slices.Repeat([]int{4}, len(projections))
	if spec.Contender == nameXDP {
		s.lens = bodyLens(e)
	}
	for i := range s.readers {
		r := &s.readers[i]
		r.body = make([]byte, slices.Max(s.lens))
		r.newest = make([]int, d.tenants*len(projections))
		if r.tenants, err = keys.New(w.Popularity.Kind, uint64(w.Tenants), w.Popularity.Skew, spec.Seed, uint64(2*i)); err != nil {
			return nil, err
		}
		if r.projections, err = keys.New("uniform", uint64(len(projections)), 0, spec.Seed, uint64(2*i+1)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Next implements loadgen.Source.
func (s *source) Next(stream uint32, op *loadgen.Op) {
	r := &s.readers[stream]
	tenant, at := r.tenants.Pick(), r.projections.Pick()
	op.Tenant, op.Stream = uint32(tenant), stream
	op.Token = tenant*uint64(len(s.expected.projections)) + at
	number := s.expected.projections[at]
	if s.codec == "resp" {
		op.Kind = codec.RESPGet
		r.key = redisKey(r.key[:0], uint32(tenant), number)
		op.Key = r.key
		return
	}
	op.Kind, op.Unchecked = uint8(frame.KindGet), true
	binary.LittleEndian.PutUint32(r.body, number)
	op.Body = r.body[:s.lens[at]]
}

// redisKey names a tenant's projection.
func redisKey(dst []byte, tenant, number uint32) []byte {
	dst = append(dst, "projection:"...)
	dst = strconv.AppendUint(dst, uint64(tenant), 10)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(number), 10)
}

// Check implements loadgen.Source: the answer must be the fold of the tenant's first
// so many events, whichever number that is.
func (s *source) Check(stream uint32, token uint64, reply *loadgen.Reply) loadgen.Judgement {
	r := &s.readers[stream]
	if reply == nil || reply.Status != 0 {
		return loadgen.Refused
	}
	n := uint64(len(s.expected.projections))
	right := s.expected.answers[token/n][token%n]
	if len(reply.Body) < 12 {
		return r.wrong("an answer of %d bytes", len(reply.Body))
	}
	beyond := int64(binary.LittleEndian.Uint64(reply.Body)) - int64(s.expected.base)
	if beyond < 0 || beyond >= int64(len(right)) {
		return r.wrong("tenant %d: an answer of version %d", token/n, beyond+int64(s.expected.base))
	}
	if !bytes.Equal(reply.Body, right[beyond]) {
		return r.wrong("tenant %d, projection %d, version %d: not the fold of its events", token/n, s.expected.projections[token%n], beyond+int64(s.expected.base))
	}
	r.checked++
	return loadgen.Right
}

func (r *reader) wrong(format string, args ...any) loadgen.Judgement {
	if r.problem == "" {
		r.problem = fmt.Sprintf(format, args...)
	}
	return loadgen.Wrong
}
