package seglog

import "math/bits"

// Stats counts what a log did since it was opened.
type Stats struct {
	Records       uint64 // made durable
	Batches       uint64 // committed
	Syncs         uint64 // data syncs by group commits, one per batch
	Bytes         uint64 // written by group commits, padding included
	UsedBytes     uint64 // of these, headers and payloads
	Failed        uint64 // records that were staged and not acknowledged
	Segments      uint64 // started
	SealedByError uint64 // segments ended by an I/O error
	DiskFull      uint64 // times that the disk was found full
	Retired       uint64 // segments removed by retention
	// BatchRecords is a histogram: bucket i counts batches of 2^(i-1)+1 to 2^i
	// records, the first those of one.
	BatchRecords [24]uint64
}

func (s *Stats) count(records, bytes, used int) {
	s.Records += uint64(records)
	s.Batches++
	s.Syncs++
	s.Bytes += uint64(bytes)
	s.UsedBytes += uint64(used)
	if records > 0 {
		s.BatchRecords[min(bits.Len(uint(records-1)), len(s.BatchRecords)-1)]++
	}
}

// BatchRecordsMean is the mean size of a group commit in records.
func (s *Stats) BatchRecordsMean() float64 {
	if s.Batches == 0 {
		return 0
	}
	return float64(s.Records) / float64(s.Batches)
}

// Stats returns a copy of the counters.
func (e *Engine) Stats() Stats { return e.stats }
