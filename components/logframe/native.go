package logframe

import (
	"encoding/binary"
	"hash/crc32"
	"unicode/utf8"
)

// Native is the guest's job done in Go: what the sandbox is measured against.
type Native struct {
	tenant uint32
	policy Policy
	state  State
	buf    []byte
}

var _ Framer = (*Native)(nil)

// NewNative returns a framer for one tenant.
func NewNative(tenant uint32, policy Policy, state State) (*Native, error) {
	policy, err := policy.withDefaults()
	return &Native{tenant: tenant, policy: policy, state: state}, err
}

// Frame implements Framer.
func (n *Native) Frame(records [][]byte, verdicts []Verdict) error {
	if err := checkBatch(records, verdicts); err != nil {
		return err
	}
	need := len(records) * HeaderLen
	for _, r := range records {
		need += len(r)
	}
	if cap(n.buf) < need {
		n.buf = make([]byte, 0, need)
	}
	n.buf = n.buf[:0]
	for i, record := range records {
		timestamp, refusal := n.validate(record)
		if refusal != Framed {
			verdicts[i] = Verdict{Timestamp: n.state.Timestamp, Refusal: refusal}
			continue
		}
		start := len(n.buf)
		n.append(record)
		n.state.Timestamp = timestamp
		verdicts[i] = Verdict{Seq: n.state.NextSeq, Timestamp: timestamp, Framed: n.buf[start:len(n.buf):len(n.buf)]}
		n.state.NextSeq++
	}
	return nil
}

func (n *Native) validate(record []byte) (timestamp uint64, _ Refusal) {
	timestamp = n.state.Timestamp
	if uint32(len(record)) < n.policy.LenMin {
		return 0, TooShort
	}
	if uint32(len(record)) > n.policy.LenMax {
		return 0, TooLong
	}
	if n.policy.Schema == SchemaEvent {
		if len(record) < EventHeaderLen || record[0] != 'N' || record[1] != 'X' ||
			record[2] == 0 || record[2] > eventKindMax || record[3] != 0 {
			return 0, BadHeader
		}
		timestamp = binary.LittleEndian.Uint64(record[4:])
		if timestamp < n.state.Timestamp {
			return 0, TimeWentBack
		}
		record = record[EventHeaderLen:]
	}
	if n.policy.Encoding == EncodingText && !utf8.Valid(record) {
		return 0, NotText
	}
	return timestamp, Framed
}

func (n *Native) append(record []byte) {
	start := len(n.buf)
	var header [HeaderLen]byte
	binary.LittleEndian.PutUint32(header[4:], uint32(len(record)))
	binary.LittleEndian.PutUint64(header[8:], n.state.NextSeq)
	binary.LittleEndian.PutUint32(header[16:], n.tenant)
	n.buf = append(append(n.buf, header[:]...), record...)
	binary.LittleEndian.PutUint32(n.buf[start:], crc32.Checksum(n.buf[start+4:], castagnoli))
}

// Rewind implements Framer.
func (n *Native) Rewind(state State) error {
	n.state = state
	return nil
}

// Close implements Framer.
func (n *Native) Close() error { return nil }
