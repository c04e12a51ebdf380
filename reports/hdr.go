package reports

import (
	"errors"
	"fmt"
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// EncodeHistogram is h in the HDR V2 compressed format, base64: the form of all
// fields named *_hdr. An empty or nil histogram is the empty string.
func EncodeHistogram(h *hdrhistogram.Histogram) (string, error) {
	if h == nil || h.TotalCount() == 0 {
		return "", nil
	}
	encoded, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return "", fmt.Errorf("encode histogram: %w", err)
	}
	return string(encoded), nil
}

// errNoHistogram says that a field holds no distribution.
var errNoHistogram = errors.New("no histogram")

// DecodeHistogram reads what EncodeHistogram wrote. The empty string is an
// error: a distribution that was not recorded is not one without values.
func DecodeHistogram(encoded string) (*hdrhistogram.Histogram, error) {
	if encoded == "" {
		return nil, errNoHistogram
	}
	h, err := hdrhistogram.Decode([]byte(encoded))
	if err != nil {
		return nil, fmt.Errorf("decode histogram: %w", err)
	}
	if h.TotalCount() == 0 {
		return nil, errNoHistogram
	}
	return h, nil
}

// MergeHistograms is the sum of all histograms that aren't nil, in the geometry
// of the widest. Values that don't fit are an error and are never dropped.
func MergeHistograms(all ...*hdrhistogram.Histogram) (*hdrhistogram.Histogram, error) {
	var widest *hdrhistogram.Histogram
	for _, h := range all {
		if h != nil && (widest == nil || h.HighestTrackableValue() > widest.HighestTrackableValue()) {
			widest = h
		}
	}
	if widest == nil {
		return nil, errNoHistogram
	}
	merged := hdrhistogram.New(widest.LowestTrackableValue(), widest.HighestTrackableValue(), int(widest.SignificantFigures()))
	for _, h := range all {
		if h == nil {
			continue
		}
		if dropped := merged.Merge(h); dropped > 0 {
			return nil, fmt.Errorf("merge histograms: %d values lie outside 1..%d", dropped, merged.HighestTrackableValue())
		}
	}
	return merged, nil
}

// LatencyOf is the summary of a histogram of nanoseconds. A nil or empty one
// gives the zero Latency, whose Count of 0 says that nothing was measured.
func LatencyOf(h *hdrhistogram.Histogram) Latency {
	if h == nil || h.TotalCount() == 0 {
		return Latency{}
	}
	at := h.ValueAtPercentilesSlice([]float64{50, 90, 99, 99.9})
	return Latency{
		Count: uint64(h.TotalCount()), Mean: h.Mean(),
		P50: at[0], P90: at[1], P99: at[2], P999: at[3], Max: h.Max(),
	}
}

// CurvePoint is one point of a distribution: Share of all values are ValueNs or
// less.
type CurvePoint struct {
	ValueNs float64
	Share   float64
}

// CDF is the share of values up to each of count log-spaced bounds between the
// smallest and the largest value.
func CDF(h *hdrhistogram.Histogram, count int) []CurvePoint {
	if h == nil || h.TotalCount() == 0 || count < 2 {
		return nil
	}
	low, high := math.Max(1, float64(h.Min())), math.Max(1, float64(h.Max()))
	step := math.Pow(high/low, 1/float64(count-1))
	curve := make([]CurvePoint, count)
	bars, seen, next := h.Distribution(), int64(0), 0
	for i := range curve {
		bound := low * math.Pow(step, float64(i))
		if i == count-1 {
			bound = high
		}
		for next < len(bars) && float64(bars[next].From) <= bound {
			seen += bars[next].Count
			next++
		}
		curve[i] = CurvePoint{ValueNs: bound, Share: float64(seen) / float64(h.TotalCount())}
	}
	curve[count-1].Share = 1
	return curve
}

// PercentileCurve gives the values at shares that approach 1 in equal steps on a
// log axis of 1-share: 0, then perDecade points for each nine that the number of
// values supports. It ends with the maximum, at share 1-1/count.
func PercentileCurve(h *hdrhistogram.Histogram, perDecade int) []CurvePoint {
	if h == nil || h.TotalCount() == 0 || perDecade < 1 {
		return nil
	}
	decades := math.Log10(float64(h.TotalCount()))
	steps := int(math.Ceil(decades * float64(perDecade)))
	percentiles := make([]float64, 0, steps+1)
	for i := range steps {
		percentiles = append(percentiles, 100*(1-math.Pow(10, -float64(i)/float64(perDecade))))
	}
	curve := make([]CurvePoint, 0, steps+1)
	for i, v := range h.ValueAtPercentilesSlice(percentiles) {
		curve = append(curve, CurvePoint{ValueNs: float64(v), Share: percentiles[i] / 100})
	}
	return append(curve, CurvePoint{ValueNs: float64(h.Max()), Share: 1 - 1/float64(h.TotalCount())})
}

// spread counts the values in each of count log-spaced columns from low to high.
func spread(h *hdrhistogram.Histogram, low, high int64, count int) []float64 {
	counts := make([]float64, count)
	span := math.Log(float64(high) / float64(low))
	for _, bar := range h.Distribution() {
		if bar.Count == 0 {
			continue
		}
		at := math.Log(math.Max(float64(bar.From), float64(low))/float64(low)) / span
		counts[min(count-1, int(at*float64(count)))] += float64(bar.Count)
	}
	return counts
}
