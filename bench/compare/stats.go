package compare

import (
	"math"
	"slices"
)

// Sample is what one slice measured of one way.
type Sample struct {
	Scenario string             `json:"scenario"`
	Case     string             `json:"case"`
	Target   string             `json:"target"`
	Repeat   int                `json:"repeat"`
	Values   map[string]float64 `json:"values"`
	Errors   map[string]int     `json:"errors,omitempty"`
}

// Figure is a median with its spread.
type Figure struct {
	Median, Low, High float64 // low and high: the quartiles
	N                 int
}

// figure sums up values; NaN are none.
func figure(values []float64) Figure {
	values = slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(values) == 0 {
		return Figure{Median: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	slices.Sort(values)
	return Figure{quantile(values, 0.5), quantile(values, 0.25), quantile(values, 0.75), len(values)}
}

// quantile interpolates between the sorted values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// Results are all samples of a run.
type Results struct {
	Machine     string   `json:"machine"`
	LoadAverage string   `json:"load_average"` // at the end
	Notes       string   `json:"notes,omitempty"`
	Missing     []string `json:"missing"` // ways that could not be measured, and why
	Repeats     int      `json:"repeats"`
	Samples     []Sample `json:"samples"`
}

// values lists what a way measured, by repeat.
func (r *Results) values(scenario, case_, target, metric string) map[int]float64 {
	out := map[int]float64{}
	for _, s := range r.Samples {
		if s.Scenario != scenario || s.Case != case_ || s.Target != target {
			continue
		}
		if v, ok := s.Values[metric]; ok {
			out[s.Repeat] = v
		}
	}
	return out
}

// Figure is the median of a metric over the repeats.
func (r *Results) Figure(scenario, case_, target, metric string) Figure {
	var list []float64
	for _, v := range r.values(scenario, case_, target, metric) {
		list = append(list, v)
	}
	return figure(list)
}

// Ratio is the median of target's metric over base's, taken inside each
// repeat.
func (r *Results) Ratio(scenario, case_, target, base, metric string) Figure {
	mine, theirs := r.values(scenario, case_, target, metric), r.values(scenario, case_, base, metric)
	var list []float64
	for rep, v := range mine {
		if b, ok := theirs[rep]; ok && b != 0 {
			list = append(list, v/b)
		}
	}
	return figure(list)
}

// Added is the median of target's metric less base's, taken inside each repeat.
func (r *Results) Added(scenario, case_, target, base, metric string) Figure {
	mine, theirs := r.values(scenario, case_, target, metric), r.values(scenario, case_, base, metric)
	var list []float64
	for rep, v := range mine {
		if b, ok := theirs[rep]; ok {
			list = append(list, v-b)
		}
	}
	return figure(list)
}

// errors sums the errors of a way over the repeats.
func (r *Results) errors(scenario, case_, target string) map[string]int {
	out := map[string]int{}
	for _, s := range r.Samples {
		if s.Scenario == scenario && s.Case == case_ && s.Target == target {
			for k, n := range s.Errors {
				out[k] += n
			}
		}
	}
	return out
}

// cases lists the cases of a scenario in the order they were measured in.
func (r *Results) cases(scenario string) (list []string) {
	for _, s := range r.Samples {
		if s.Scenario == scenario && !slices.Contains(list, s.Case) {
			list = append(list, s.Case)
		}
	}
	return list
}
