package stats

import "math"

// Wilson is the share k/n with its 95% score interval (Wilson 1927), which stays
// within 0 and 1 and is sensible at both ends. It is not Valid for n < 2 or k
// outside 0..n.
func Wilson(k, n int) Interval {
	if n < 2 || k < 0 || k > n {
		return invalid(n)
	}
	const z = 1.959963984540054
	share, size := float64(k)/float64(n), float64(n)
	middle := (share + z*z/(2*size)) / (1 + z*z/size)
	half := z / (1 + z*z/size) * math.Sqrt(share*(1-share)/size+z*z/(4*size*size))
	return Interval{Center: share, Lo: math.Max(0, math.Min(share, middle-half)), Hi: math.Min(1, math.Max(share, middle+half)), Confidence: Confidence, N: n}
}
