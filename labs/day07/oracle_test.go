package day07

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/keys"
	"github.com/nexuscore-labs/nexus/reports"
)

// twoTenants makes pickers over two tenants.
func twoTenants(writer uint64) (keys.Picker, error) { return keys.New("uniform", 2, 0, 5, writer) }

// stored is one record as a scan would give it.
type stored struct {
	tenant uint32
	seq    uint64
	record []byte
}

// play has three writers ask for four records each, acknowledges all, and
// returns the source and the records as a right store would hold them.
func play(t *testing.T) (*source, []stored) {
	t.Helper()
	s, err := newSource(recordShape{seed: 5, lenMin: 16, lenMax: 300, writers: 3}, twoTenants)
	if err != nil {
		t.Fatal(err)
	}
	var records []stored
	next := map[uint32]uint64{}
	for range 4 {
		for writer := range uint32(3) {
			var op loadgen.Op
			s.Next(writer, &op)
			next[op.Tenant]++
			seq := next[op.Tenant]
			records = append(records, stored{op.Tenant, seq, append([]byte(nil), op.Body...)})
			body := binary.LittleEndian.AppendUint64(nil, seq)
			if got := s.Check(writer, op.Token, &loadgen.Reply{Body: body}); got != loadgen.Right {
				t.Fatalf("a right acknowledgement was judged %v", got)
			}
		}
	}
	return s, records
}

func TestOracle(t *testing.T) {
	tests := []struct {
		name   string
		damage func([]stored) []stored
		want   reports.OracleResult // without the note
	}{
		{"all there", func(r []stored) []stored { return r }, reports.OracleResult{Checked: 12}},
		{"one lost", func(r []stored) []stored { return r[:len(r)-1] }, reports.OracleResult{Checked: 11, Lost: 1}},
		{"all lost", func([]stored) []stored { return nil }, reports.OracleResult{Lost: 12}},
		{"a flipped bit", func(r []stored) []stored {
			r[3].record[len(r[3].record)-1] ^= 1
			return r
		}, reports.OracleResult{Checked: 12, Wrong: 1}},
		{"an alien record", func(r []stored) []stored {
			return append(r, stored{1, 99, []byte("never asked for, by nobody")})
		}, reports.OracleResult{Checked: 13, Phantom: 1}},
		{"a record from the future", func(r []stored) []stored {
			return append(r, stored{1, 99, recordShape{seed: 5, lenMin: 16, lenMax: 300}.append(nil, 1, 4)})
		}, reports.OracleResult{Checked: 13, Phantom: 1}},
		{"the last one twice", func(r []stored) []stored {
			last := r[len(r)-1]
			last.seq++
			return append(r, last)
		}, reports.OracleResult{Checked: 13, Phantom: 1}},
		{"another tenant's record", func(r []stored) []stored {
			r[len(r)-1].tenant ^= 1
			r[len(r)-1].seq = 50
			return r
		}, reports.OracleResult{Checked: 12, Lost: 1, Wrong: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, records := play(t)
			records = test.damage(records)
			got, err := verify(t.TempDir(), func(_ string, visit func(uint32, uint64, []byte) error) error {
				for _, r := range records {
					if err := visit(r.tenant, r.seq, r.record); err != nil {
						return err
					}
				}
				return nil
			}, s)
			if err != nil {
				t.Fatal(err)
			}
			clean := got.Lost+got.Wrong+got.Phantom == 0
			if clean != (got.Note == "") {
				t.Errorf("note %q with counts %+v", got.Note, got)
			}
			got.Note = ""
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestOracleSeesAWriterOutOfOrder(t *testing.T) {
	s, records := play(t)
	var first, second = -1, -1
	for i := range records {
		for j := i + 1; j < len(records) && second < 0; j++ {
			wi, _, _ := author(records[i].record)
			wj, _, _ := author(records[j].record)
			if wi == wj && records[i].tenant == records[j].tenant {
				first, second = i, j
			}
		}
	}
	if second < 0 {
		t.Fatal("no writer has two records of one tenant")
	}
	// Never acknowledged, so that only the order can complain.
	for w := range s.writers {
		s.writers[w].acks = nil
	}
	records[first].record, records[second].record = records[second].record, records[first].record
	got, err := verify(t.TempDir(), func(_ string, visit func(uint32, uint64, []byte) error) error {
		for _, r := range records {
			_ = visit(r.tenant, r.seq, r.record)
		}
		return nil
	}, s)
	if err != nil || got.Wrong == 0 {
		t.Fatalf("two records swapped: %+v, error %v", got, err)
	}
}

func TestRecordsFollowFromTheSeed(t *testing.T) {
	tests := []struct {
		sizes                string
		medianMin, medianMax int
	}{
		{"uniform", 1900, 2300},
		{sizesLogUniform, 550, 750}, // the geometric mean of both ends is 640
	}
	for _, test := range tests {
		t.Run(test.sizes, func(t *testing.T) {
			shape := recordShape{seed: 11, sizes: test.sizes, lenMin: 100, lenMax: 4096}
			var lengths []int
			for n := range uint64(2000) {
				record := shape.append(nil, 3, n)
				if len(record) != shape.length(3, n) || len(record) < 100 || len(record) > 4096 {
					t.Fatalf("record %d has %d bytes", n, len(record))
				}
				if writer, got, ok := author(record); !ok || writer != 3 || got != n {
					t.Fatalf("record %d says writer %d, n %d", n, writer, got)
				}
				lengths = append(lengths, len(record))
			}
			slices.Sort(lengths)
			if median := lengths[len(lengths)/2]; median < test.medianMin || median > test.medianMax {
				t.Fatalf("the median length is %d, want %d to %d", median, test.medianMin, test.medianMax)
			}
			if lengths[0] > 120 || lengths[len(lengths)-1] < 3900 {
				t.Fatalf("2,000 lengths lie between %d and %d: the ends are not reached", lengths[0], lengths[len(lengths)-1])
			}
		})
	}
}
