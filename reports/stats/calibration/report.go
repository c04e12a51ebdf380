package calibration

import "time"

// Report is everything that is known about the statistics.
type Report struct {
	Seed         uint64   `json:"seed"`
	Thoroughness int      `json:"thoroughness"`
	ElapsedNs    int64    `json:"elapsed_ns"`
	Answers      []Answer `json:"answers"`
	Shares       []Share  `json:"shares"`
	OK           bool     `json:"ok"`
}

// Run makes the report. Equal arguments give the equal report but for its
// duration: some ten seconds times the thoroughness.
func Run(seed uint64, thoroughness int) (*Report, error) {
	began := time.Now()
	answers, err := Answers()
	if err != nil {
		return nil, err
	}
	r := &Report{Seed: seed, Thoroughness: thoroughness, Answers: answers, Shares: Shares(seed, thoroughness), OK: true}
	for _, a := range r.Answers {
		r.OK = r.OK && a.OK
	}
	for _, s := range r.Shares {
		r.OK = r.OK && s.OK
	}
	r.ElapsedNs = time.Since(began).Nanoseconds()
	return r, nil
}

// Comparisons is how many known answers were met, and how many there are.
func (r *Report) Comparisons() (met, all int) {
	for _, a := range r.Answers {
		all += a.Comparisons
		if a.OK {
			met += a.Comparisons
		}
	}
	return met, all
}
