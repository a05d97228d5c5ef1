import LinuxSystem
import Testing

@testable import Varlink

private func texts(_ framer: inout MessageFramer) throws -> [String] {
    var result: [String] = []
    while let message = try framer.next() { result.append(String(decoding: message.bytes, as: UTF8.self)) }
    return result
}

@Suite struct `The framer` {
    @Test(arguments: [1, 2, 3, 5, 100])
    func `messages are the same however the stream is cut`(_ size: Int) throws {
        let stream = Array("one\0\0three\0".utf8) + Array(repeating: UInt8(ascii: "x"), count: 200) + [0]
        var framer = MessageFramer(messageLimit: 200, descriptorLimit: 0)
        var seen: [String] = []
        for start in stride(from: 0, to: stream.count, by: size) {
            try framer.append(
                Array(stream[start..<min(start + size, stream.count)]), descriptors: ReceivedDescriptors())
            seen += try texts(&framer)
        }
        #expect(seen == ["one", "", "three", String(repeating: "x", count: 200)])
        #expect(framer.bufferedBytes == 0)
    }

    @Test func `a message of the limit passes and one byte more is refused, ended or not`() throws {
        for terminator in [[0], []] as [[UInt8]] {
            var framer = MessageFramer(messageLimit: 10, descriptorLimit: 0)
            try framer.append(Array(repeating: 65, count: 10) + terminator, descriptors: ReceivedDescriptors())
            #expect(try framer.next()?.bytes.count == (terminator.isEmpty ? nil : 10))
            var other = MessageFramer(messageLimit: 10, descriptorLimit: 0)
            try other.append(Array(repeating: 65, count: 11) + terminator, descriptors: ReceivedDescriptors())
            #expect(throws: ProtocolViolation.messageTooLong(limit: 10)) { try other.next() }
        }
    }

    @Test func `descriptors go with the message that their read ended in`() throws {
        func descriptors(_ count: Int) -> ReceivedDescriptors {
            ReceivedDescriptors(taking: (0..<count).map { _ in temporaryFile("").relinquish() })
        }
        var framer = MessageFramer(messageLimit: 100, descriptorLimit: 10)
        // The second message begins in this read, so these are its.
        try framer.append(Array("a\0b".utf8), descriptors: descriptors(1))
        try framer.append(Array("b\0".utf8), descriptors: descriptors(2))
        try framer.append(Array("c\0".utf8), descriptors: ReceivedDescriptors())
        try framer.append(Array("d\0".utf8), descriptors: descriptors(4))
        var counts: [Int] = []
        while let message = try framer.next() { counts.append(message.descriptors.count) }
        #expect(counts == [0, 3, 0, 4])
    }

    @Test func `descriptors cannot pile up over messages that wait`() throws {
        var framer = MessageFramer(messageLimit: 100, descriptorLimit: 2)
        let file = { ReceivedDescriptors(taking: [temporaryFile("").relinquish()]) }
        try framer.append(Array("a\0".utf8), descriptors: file())
        try framer.append(Array("b\0".utf8), descriptors: file())
        #expect(throws: ProtocolViolation.tooManyDescriptors(limit: 2)) {
            try framer.append(Array("c\0".utf8), descriptors: file())
        }
    }

    @Test func `a long life does not grow the buffer`() throws {
        var framer = MessageFramer(messageLimit: 1 << 20, descriptorLimit: 0)
        let chunk = Array(String(repeating: "message\0", count: 8192).utf8) + Array("par".utf8)
        var count = 0
        for round in 0..<50 {
            try framer.append(chunk, descriptors: ReceivedDescriptors())
            while let message = try framer.next() {
                count += 1
                #expect(message.bytes.count == 7 || message.bytes == Array("parmessage".utf8), "round \(round)")
            }
        }
        #expect(count == 50 * 8192)
        #expect(framer.bufferedBytes == 3)
    }
}

@Suite struct `What a message may be` {
    @Test(arguments: [
        "", " ", "nonsense", "{", #"{"method":"a.B""#, "[]", "7", "null", #""text""#, "{}", #"{"method":7}"#,
        #"{"method":"a.B","parameters":[]}"#, #"{"method":"a.B","parameters":7}"#, #"{"method":"a.B","more":"yes"}"#,
        #"{"method":null}"#, "{\"method\":\"a.\u{1}B\"}",
    ])
    func `anything else is no call`(_ text: String) {
        #expect(throws: ProtocolViolation.self) {
            try MessageCoding.header(CallHeader.self, of: Array(text.utf8), depthLimit: 32)
        }
    }

    @Test func `text that is no UTF-8 is no call`() {
        #expect(throws: ProtocolViolation.self) {
            try MessageCoding.header(
                CallHeader.self, of: Array(#"{"method":""#.utf8) + [0xff, 0xfe] + Array(#""}"#.utf8), depthLimit: 32)
        }
    }

    @Test func `deep nesting is refused before anything recurses into it`() {
        let deep = #"{"method":"a.B","parameters":"# + String(repeating: #"{"a":"#, count: 100_000)
        #expect(throws: ProtocolViolation.nestedTooDeeply(limit: 32)) {
            try MessageCoding.header(CallHeader.self, of: Array(deep.utf8), depthLimit: 32)
        }
    }

    @Test func `a member is split at its last dot`() {
        #expect(splitMember("io.example.A")?.interface == "io.example")
        #expect(splitMember("io.example.A")?.member == "A")
        for text in ["", "A", ".A", "io."] { #expect(splitMember(text) == nil) }
    }
}
