/// What a row must come to.
struct Target {
    /// As people read it, such as "≤ 1.15 ×".
    var text: String
    var isMet: (_ ours: Double, _ peer: Double) -> Bool

    /// `ours / peer` is at most this: times, bytes.
    static func ratio(atMost limit: Double) -> Target {
        Target(text: "≤ \(short(limit)) ×") { $0 <= limit * $1 }
    }

    /// `ours / peer` is at least this: rates.
    static func ratio(atLeast limit: Double) -> Target {
        Target(text: "≥ \(short(limit)) ×") { $0 >= limit * $1 }
    }

    /// Ours itself is at most this, in the row's unit.
    static func value(atMost limit: Double, _ unit: String) -> Target {
        Target(text: "≤ \(short(limit)) \(unit)") { ours, _ in ours <= limit }
    }

    /// Ours takes at most so much more than the peer, in the row's unit.
    static func difference(atMost limit: Double, _ unit: String) -> Target {
        Target(text: "≤ \(short(limit)) \(unit) more") { $0 - $1 <= limit }
    }

    func and(_ other: Target) -> Target {
        Target(text: "\(text), \(other.text)") { isMet($0, $1) && other.isMet($0, $1) }
    }
}

/// One line of the result: the same work by this project and by a peer, medians of interleaved runs.
struct Row: Encodable {
    var area: String
    var what: String
    var ours: Double
    var peer: Double
    var unit: String
    var ratio: Double
    var target: String
    var met: Bool
    /// Who the peer is.
    var against: String

    init(_ area: String, _ what: String, _ pair: Pair, _ unit: String, against: String, _ target: Target) {
        self.area = area
        self.what = what
        ours = pair.ours
        peer = pair.peer
        self.unit = unit
        ratio = pair.peer == 0 ? 0 : pair.ours / pair.peer
        self.target = target.text
        met = target.isMet(pair.ours, pair.peer)
        self.against = against
    }
}

/// Everything of one call of the program.
struct Report: Encodable {
    var area: String
    var runs: Int
    var machine: Machine
    var rows: [Row] = []
    /// Rows that could not be measured here, and why.
    var skipped: [String] = []

    init(_ area: String, runs: Int) {
        self.area = area
        self.runs = runs
        machine = Machine()
    }

    mutating func skip(_ what: String, _ reason: String) {
        skipped.append("\(what): \(reason)")
        note("skipped: \(what): \(reason)")
    }
}

/// Three significant digits, without a trailing ".0".
func short(_ value: Double) -> String {
    let magnitude = value.magnitude
    var scale = 1.0
    while magnitude * scale < 100, scale < 1e6 { scale *= 10 }
    let rounded = (value * scale).rounded() / scale
    return rounded == rounded.rounded() && rounded.magnitude < 1e15 ? String(Int(rounded)) : String(rounded)
}
