package ringserver

import (
	"fmt"
	"strings"

	"github.com/nexuscore-labs/nexus/frame"
)

// counts are the server's own counters; the log's are seglog.Stats.
type counts struct {
	connections, connectionsRefused, connectionErrors, acceptErrors  uint64
	clientsStuck                                                     uint64
	framesMalformed, framesOversized, framesTruncated, framesUnknown uint64
	appendsRefused, reads, tails, pings                              uint64
	stalls, receivePauses, receiveBuffersEmpty, queueFull            uint64
	sends, sentBytes, receivedBytes                                  uint64
	retireErrors, commitsOverlapped                                  uint64
	retiring                                                         bool
	answers                                                          [frame.StatusRejected + 1]uint64
}

// report gives every counter to Options.Stats.
func (s *server) report() {
	stat := s.o.Stats
	if stat == nil {
		return
	}
	l := s.e.Stats()
	c := &s.counts
	for _, x := range []struct {
		name  string
		value uint64
	}{
		{"records_total", l.Records}, {"records_failed_total", l.Failed},
		{"batches_total", l.Batches}, {"batches_overlapped_total", s.counts.commitsOverlapped}, {"fdatasyncs_total", l.Syncs},
		{"written_bytes", l.Bytes}, {"used_bytes", l.UsedBytes},
		{"segments_total", l.Segments}, {"segments_sealed_by_error_total", l.SealedByError},
		{"segments_retired_total", l.Retired}, {"disk_full_total", l.DiskFull},
		{"connections_total", c.connections}, {"connections_refused_total", c.connectionsRefused},
		{"connection_errors_total", c.connectionErrors}, {"accept_errors_total", c.acceptErrors},
		{"clients_stuck_total", c.clientsStuck},
		{"frames_malformed_total", c.framesMalformed}, {"frames_oversized_total", c.framesOversized},
		{"frames_truncated_total", c.framesTruncated}, {"frames_unknown_total", c.framesUnknown},
		{"appends_refused_total", c.appendsRefused}, {"reads_total", c.reads}, {"tails_total", c.tails}, {"pings_total", c.pings},
		{"stalls_total", c.stalls}, {"receive_pauses_total", c.receivePauses},
		{"receive_buffers_empty_total", c.receiveBuffersEmpty}, {"submission_queue_full_total", c.queueFull},
		{"sends_total", c.sends}, {"sent_bytes", c.sentBytes}, {"received_bytes", c.receivedBytes},
		{"retire_errors_total", c.retireErrors},
	} {
		stat(x.name, float64(x.value))
	}
	stat("batch_records_mean", l.BatchRecordsMean())
	for i, n := range l.BatchRecords {
		if n > 0 {
			stat(fmt.Sprintf("batches_of_at_most_%d_records_total", 1<<i), float64(n))
		}
	}
	for status, n := range c.answers {
		name := strings.ReplaceAll(frame.Status(status).String(), " ", "_")
		stat("answers_"+name+"_total", float64(n))
	}
}
