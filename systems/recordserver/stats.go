package recordserver

import (
	"strings"
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/frame"
)

// statusCount is the number of frame statuses that this package answers with.
const statusCount = int(frame.StatusRejected) + 1

// Stats are the counters of one Serve.
type Stats struct {
	Connections        atomic.Uint64
	ConnectionsRefused atomic.Uint64
	AcceptErrors       atomic.Uint64
	FramesMalformed    atomic.Uint64 // ended their connection
	FramesOversized    atomic.Uint64 // ended their connection
	FramesTruncated    atomic.Uint64 // the connection ended inside a frame
	ClientsStuck       atomic.Uint64 // dropped: read nothing, or sent half a frame
	Appends            atomic.Uint64 // records given to the store
	Batches            atomic.Uint64 // calls that gave them
	Writes             atomic.Uint64 // write system calls that carried answers
	Answers            [statusCount]atomic.Uint64
}

// each reports every counter; the unit is the last word of the name.
func (s *Stats) each(stat func(name string, value float64)) {
	counters := []struct {
		name  string
		value *atomic.Uint64
	}{
		{"connections_total", &s.Connections},
		{"connections_refused_total", &s.ConnectionsRefused},
		{"accept_errors_total", &s.AcceptErrors},
		{"frames_malformed_total", &s.FramesMalformed},
		{"frames_oversized_total", &s.FramesOversized},
		{"frames_truncated_total", &s.FramesTruncated},
		{"clients_stuck_total", &s.ClientsStuck},
		{"appends_total", &s.Appends},
		{"append_calls_total", &s.Batches},
		{"answer_writes_total", &s.Writes},
	}
	for _, c := range counters {
		stat(c.name, float64(c.value.Load()))
	}
	for status := range s.Answers {
		name := strings.ReplaceAll(frame.Status(status).String(), " ", "_")
		stat("answers_"+name+"_total", float64(s.Answers[status].Load()))
	}
}
