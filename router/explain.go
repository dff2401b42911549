package router

// Explain is Select with the reasons of those that are no candidates.
func Explain(q Request, s Snapshot) (cs []Candidate, rs []Refusal) {
	for _, m := range s.Members() {
		rs = append(rs, Refusal{Member: m, Reason: ReasonNoModel})
	}
	holders := s.Holders(q.Key)
	e := newEstimator(&q, &s, holders)
	for i := range holders {
		c, reason := e.candidate(&holders[i])
		if reason == "" {
			cs = append(cs, c)
		} else {
			rs = append(rs, Refusal{Member: holders[i].Member, Reason: reason})
		}
	}
	return cs, rs
}
