import Terms
import Testing

@Suite struct `A refusal` {
    @Test func `names field, value and limit in one sentence`() {
        let refusal = Refusal(field: "vcpus", value: "0", limit: "1 to 1024")
        #expect("\(refusal)" == "vcpus is 0; it must be 1 to 1024")
    }

    @Test(arguments: [
        ("a", "a"), ("a\u{1B}[2Jb", "a\u{FFFD}[2Jb"),
        (String(repeating: "x", count: 64), String(repeating: "x", count: 64)),
        (String(repeating: "x", count: 65), String(repeating: "x", count: 64) + "…"), ("", ""),
    ])
    func `quotes at most 64 characters without control characters`(_ sent: String, _ shown: String) {
        #expect(Refusal.quoting(sent) == shown)
    }
}
