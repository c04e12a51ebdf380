package scenarios

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// scalar is a value with a notation of its own. The types below are what a
// scenario file's fields are made of; each knows its notation, its canonical
// number and its pattern for editors.
type scalar interface {
	// parse sets the value. Its error says what is wrong; nearest, if not
	// empty, what was probably meant.
	parse(text string) (nearest string, err error)
	// canonical is the value in its canonical unit, for bounds.
	canonical() float64
	// pattern is a regular expression of all valid notations, and an example.
	pattern() (expression, example string)
}

// rate is a number per second: 20k/s.
type rate float64

// span is a duration: 30s, 1m30s, 400ms.
type span time.Duration

// size is a number of bytes: 4KiB.
type size int64

// quantity is a number with any of the units, or none: 20, 1ms, 1GB/s.
type quantity struct {
	value float64
	unit  string // ns, bytes, bytes_per_s, per_s; empty: a bare number
}

var (
	rateUnits = map[string]float64{"/s": 1, "k/s": 1e3, "M/s": 1e6}
	sizeUnits = map[string]float64{
		"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}
	spanUnits = map[string]float64{"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
)

const numberPattern = `[0-9]+(\.[0-9]+)?`

var numberWithUnit = regexp.MustCompile(`^(` + numberPattern + `) ?([^0-9. ][^0-9]*)?$`)

// parseWithUnit reads a number and one of the units. what is said in errors.
func parseWithUnit(text, what, commonUnit string, units map[string]float64) (value float64, near string, err error) {
	parts := numberWithUnit.FindStringSubmatch(text)
	if parts == nil {
		return 0, "", fmt.Errorf("%q is not %s", text, what)
	}
	number, err := strconv.ParseFloat(parts[1], 64)
	if err != nil || math.IsInf(number, 0) {
		return 0, "", fmt.Errorf("%q is not %s: the number is out of range", text, what)
	}
	unit := parts[3]
	factor, known := units[unit]
	switch {
	case unit == "":
		return 0, parts[1] + commonUnit, fmt.Errorf("%q has no unit: %s needs one", text, what)
	case !known:
		if near = nearestUnit(unit, sortedKeys(units)); near != "" {
			near = parts[1] + near
		}
		return 0, near, fmt.Errorf("%q is no unit of %s: %s", unit, what, oneOf(sortedKeys(units)))
	}
	return number * factor, "", nil
}

// nearestUnit is nearest for names of one to four letters.
func nearestUnit(wrong string, valid []string) string {
	best, bestDistance := "", 4
	for _, unit := range valid {
		d := distance(wrong, unit)
		if strings.EqualFold(wrong, unit) || strings.HasPrefix(wrong, unit) || strings.HasPrefix(unit, wrong) {
			d = 0
		}
		if d < bestDistance || d == bestDistance && len(unit) > len(best) && d == 0 {
			best, bestDistance = unit, d
		}
	}
	return best
}

func (r *rate) parse(text string) (string, error) {
	value, near, err := parseWithUnit(text, "a rate", "/s", rateUnits)
	*r = rate(value)
	return near, err
}

func (r *rate) canonical() float64 { return float64(*r) }

func (r *rate) pattern() (string, string) { return `^` + numberPattern + ` ?[kM]?/s$`, "20k/s" }

func (s *size) parse(text string) (string, error) {
	value, near, err := parseWithUnit(text, "a size", "B", sizeUnits)
	if err == nil && (value != math.Trunc(value) || value > math.MaxInt64/2) {
		return "", fmt.Errorf("%q is not a whole number of bytes", text)
	}
	*s = size(value)
	return near, err
}

func (s *size) canonical() float64 { return float64(*s) }

func (s *size) pattern() (string, string) {
	return `^` + numberPattern + ` ?(B|[kMGT]B|[KMGT]iB)$`, "4KiB"
}

func (s *span) parse(text string) (string, error) {
	if d, err := time.ParseDuration(text); err == nil && text != "0" {
		*s = span(d)
		return "", nil
	}
	value, near, err := parseWithUnit(text, "a duration", "s", spanUnits)
	if err == nil && value > math.MaxInt64/2 {
		return "", fmt.Errorf("%q is out of range", text)
	}
	*s = span(value)
	return near, err
}

func (s *span) canonical() float64 { return float64(*s) }

func (s *span) pattern() (string, string) {
	return `^(` + numberPattern + ` ?(ns|us|µs|ms|s|m|h))+$`, "400ms"
}

func (q *quantity) parse(text string) (string, error) {
	if number, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(number, 0) && !math.IsNaN(number) {
		*q = quantity{value: number}
		return "", nil
	}
	all := map[string]float64{"k": 1e3, "M": 1e6}
	for unit, factor := range sizeUnits {
		all[unit], all[unit+"/s"] = factor, factor
	}
	for _, units := range []map[string]float64{rateUnits, spanUnits} {
		for unit, factor := range units {
			all[unit] = factor
		}
	}
	value, near, err := parseWithUnit(text, "a number with or without a unit", "", all)
	if err != nil {
		return near, err
	}
	q.value = value
	unit := strings.TrimLeft(text, "0123456789. ")
	bare, perSecond := strings.CutSuffix(unit, "/s")
	_, bytes := sizeUnits[bare]
	switch {
	case bytes && perSecond:
		q.unit = "bytes_per_s"
	case bytes:
		q.unit = "bytes"
	case perSecond:
		q.unit = "per_s"
	case bare == "k" || bare == "M":
	default:
		q.unit = "ns"
	}
	return "", nil
}

func (q *quantity) canonical() float64 { return q.value }

func (q *quantity) pattern() (string, string) {
	return `^-?` + numberPattern + ` ?(ns|us|µs|ms|s|m|h|(B|[kMGT]B|[KMGT]iB|[kM])(/s)?|/s)?$`, "1GB/s"
}

var callForm = regexp.MustCompile(`^([a-z]+)\(([^()]*)\)$`)

func (p *Popularity) parse(text string) (string, error) {
	switch text {
	case "uniform", "sequential":
		*p = Popularity{Kind: text}
		return "", nil
	}
	parts := callForm.FindStringSubmatch(text)
	if parts == nil || parts[1] != "zipf" {
		word, _, _ := strings.Cut(text, "(")
		near := map[string]string{"zipf": "zipf(0.99)", "uniform": "uniform", "sequential": "sequential"}[nearest(word, []string{"zipf", "uniform", "sequential"})]
		return near, fmt.Errorf("%q is not a popularity: zipf(<exponent>), uniform or sequential", text)
	}
	skew, err := strconv.ParseFloat(parts[2], 64)
	if err != nil || !(skew > 0 && skew <= 5) {
		return "zipf(0.99)", fmt.Errorf("zipf's exponent %q is not a number above 0 and at most 5", parts[2])
	}
	*p = Popularity{Kind: "zipf", Skew: skew}
	return "", nil
}

func (p *Popularity) canonical() float64 { return p.Skew }

func (p *Popularity) pattern() (string, string) {
	return `^(uniform|sequential|zipf\(` + numberPattern + `\))$`, "zipf(0.99)"
}

func (r *SizeRange) parse(text string) (string, error) {
	parts := callForm.FindStringSubmatch(text)
	if parts == nil {
		var s size
		near, err := s.parse(text)
		if err != nil {
			return near, fmt.Errorf("%w; or write uniform(<size>, <size>) or loguniform(<size>, <size>)", err)
		}
		*r = SizeRange{Kind: "constant", MinBytes: int(s), MaxBytes: int(s)}
		return "", nil
	}
	kind := parts[1]
	if kind != "uniform" && kind != "loguniform" {
		near := nearest(kind, []string{"uniform", "loguniform"})
		if near != "" {
			near += "(" + parts[2] + ")"
		}
		return near, fmt.Errorf("%q is no distribution of sizes: valid: uniform, loguniform", kind)
	}
	lo, hi, two := strings.Cut(parts[2], ",")
	if !two {
		return "", fmt.Errorf("%s needs two sizes", kind)
	}
	var low, high size
	for _, end := range []struct {
		into *size
		text string
	}{{&low, lo}, {&high, hi}} {
		if near, err := end.into.parse(strings.TrimSpace(end.text)); err != nil {
			if near != "" {
				near = strings.Replace(text, strings.TrimSpace(end.text), near, 1)
			}
			return near, err
		}
	}
	if low < 1 || high < low {
		return "", fmt.Errorf("%q: the first size must be at least 1 B and not above the second", text)
	}
	*r = SizeRange{Kind: kind, MinBytes: int(low), MaxBytes: int(high)}
	return "", nil
}

func (r *SizeRange) canonical() float64 { return float64(r.MaxBytes) }

func (r *SizeRange) pattern() (string, string) {
	one := numberPattern + ` ?(B|[kMGT]B|[KMGT]iB)`
	return `^(` + one + `|(log)?uniform\( *` + one + ` *, *` + one + ` *\))$`, "loguniform(100B, 4KiB)"
}
