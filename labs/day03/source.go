package day03

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/keys"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// questionsPerGraph are the roots that a trial asks from. Their answers are
// found by the dumb search before the trial, so that each answer can be compared
// byte by byte as it comes.
const questionsPerGraph = 256

// question is one query and all chunks of its answer.
type question struct {
	queries [][]byte // wire form, one for each chunk
	chunks  [][]byte
}

// source states the queries of one trial and compares their answers. Each
// stream's state is its own, so workers that own different streams need no lock.
type source struct {
	stream    bool
	questions [][]question // by graph
	streams   []stream
}

type stream struct {
	picker  keys.Picker // of the tenant
	rng     *rand.Rand  // of the root
	next    place       // of a stream of chunks: what comes next
	more    bool
	checked uint64
	wrong   uint64
	problem string // what was wrong with the first wrong answer
}

// place is one chunk of one question of a tenant.
type place struct {
	tenant          uint32
	question, chunk int
}

// A token is a place: 24 bits of tenant, 20 of question, 20 of chunk.
func (p place) token() uint64 {
	return uint64(p.tenant)<<40 | uint64(p.question)<<20 | uint64(p.chunk)
}

func placeOf(token uint64) place {
	return place{uint32(token >> 40), int(token >> 20 & (1<<20 - 1)), int(token & (1<<20 - 1))}
}

func newSource(w workload, popularity scenarios.Popularity, seed uint64, streams int) (*source, error) {
	graphs, err := corpusOf(w)
	if err != nil {
		return nil, err
	}
	s := &source{stream: w.stream, streams: make([]stream, streams)}
	rng := rand.New(rand.NewPCG(seed, 3))
	for _, r := range graphs.graphs {
		questions := make([]question, questionsPerGraph)
		for i := range questions {
			if questions[i], err = ask(r, w.query(uint32(rng.IntN(w.nodes))), w.stream); err != nil {
				return nil, err
			}
		}
		s.questions = append(s.questions, questions)
	}
	for i := range s.streams {
		picker, err := keys.New(popularity.Kind, uint64(w.tenants), popularity.Skew, seed, uint64(i))
		if err != nil {
			return nil, err
		}
		s.streams[i] = stream{picker: picker, rng: rand.New(rand.NewPCG(seed, 1<<32|uint64(i)))}
	}
	return s, nil
}

// ask finds the answer to a query: its first chunk, or all.
func ask(r graph.Reference, q graph.Query, all bool) (question, error) {
	var asked question
	found := r.Find(q)
	for {
		body, err := r.Cut(q, found, nil)
		if err != nil {
			return asked, fmt.Errorf("answer %+v: %w", q, err)
		}
		asked.queries = append(asked.queries, graph.AppendQuery(nil, q))
		asked.chunks = append(asked.chunks, body)
		chunk, err := graph.ParseChunk(body)
		if err != nil || chunk.Done || !all {
			return asked, err
		}
		q.Position = chunk.Next
	}
}

// Next states the stream's next query.
func (s *source) Next(id uint32, op *loadgen.Op) {
	st := &s.streams[id]
	at := st.next
	if !st.more {
		at = place{tenant: uint32(st.picker.Pick()), question: st.rng.IntN(questionsPerGraph)}
	}
	st.more = false
	op.Kind = uint8(frame.KindQuery)
	op.Stream = id
	op.Tenant = at.tenant
	op.Token = at.token()
	op.Body = s.question(at).queries[at.chunk]
}

func (s *source) question(at place) *question {
	return &s.questions[int(at.tenant)%len(s.questions)][at.question]
}

// Check compares an answer with the dumb search's.
func (s *source) Check(id uint32, token uint64, reply *loadgen.Reply) loadgen.Judgement {
	st, at := &s.streams[id], placeOf(token)
	if reply == nil || reply.Status != uint8(frame.StatusOK) {
		return loadgen.Refused
	}
	st.checked++
	q := s.question(at)
	if want := q.chunks[at.chunk]; !bytes.Equal(reply.Body, want) {
		st.wrong++
		if st.problem == "" {
			st.problem = fmt.Sprintf("tenant %d, query %x: %d bytes differ from the search's %d", at.tenant, q.queries[at.chunk], len(reply.Body), len(want))
		}
		return loadgen.Wrong
	}
	if s.stream && at.chunk+1 < len(q.chunks) {
		at.chunk++
		st.next, st.more = at, true
	}
	return loadgen.Right
}

// compared counts the answers that were compared.
func (s *source) compared() (result reports.OracleResult) {
	for i := range s.streams {
		st := &s.streams[i]
		result.Checked += st.checked
		result.Wrong += st.wrong
		if result.Note == "" {
			result.Note = st.problem
		}
	}
	return result
}
