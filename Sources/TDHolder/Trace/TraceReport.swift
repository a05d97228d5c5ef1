internal import LinuxSystem
internal import TDXModule

/// What came of making the calls of a recording again, for `tdxctl trace replay`.
public struct TraceReport: Encodable, Sendable {
    /// One register or exit in which module and recording differ.
    public struct Disagreement: Encodable, Sendable {
        /// In the recording, from 1.
        public var line: Int
        public var call: String
        public var what: String
        public var recorded: String
        public var replayed: String
    }

    public var calls: Int
    public var agrees: Bool
    /// Always: a recording is replayed on the software module.
    public var emulated = true
    public var disagreements: [Disagreement]

    /// Most bytes of a recording: a call takes about 200 bytes, with a page's content 8,400.
    public static let sizeLimit = 1 << 30

    /// Replays the recording at `path`.
    /// - Throws: `LinuxError` when it cannot be read, `TraceFormatError` when it is none.
    public init(path: String) throws {
        let text = String(decoding: try TextFile.readBytes(path, limit: Self.sizeLimit), as: UTF8.self)
        let replay = try TraceReplay(lines: text.split(separator: "\n", omittingEmptySubsequences: false))
        calls = replay.calls
        disagreements = replay.disagreements.map {
            Disagreement(line: $0.line, call: $0.call, what: $0.what, recorded: $0.recorded, replayed: $0.replayed)
        }
        agrees = disagreements.isEmpty
    }

    /// The report for people: at most 20 disagreements in full.
    public var text: String {
        var lines = disagreements.prefix(20).map {
            "line \($0.line): \($0.call): \($0.what) was \($0.recorded), the module gives \($0.replayed)"
        }
        if disagreements.count > 20 { lines.append("… and \(disagreements.count - 20) more") }
        lines.append(
            "\(calls) calls were made again on the emulated TDX module: "
                + (agrees ? "it agrees with every one" : "it differs in \(disagreements.count) places"))
        return lines.joined(separator: "\n")
    }
}
