import Testing
import VMMTerms

@Suite struct GuestScriptTests {
    private func step(_ line: String) throws -> GuestStep {
        try #require(try GuestScript(parsing: line).steps[0]?.first?.step)
    }

    @Test func `every step is read`() throws {
        #expect(try step("accept all") == .acceptAll)
        #expect(try step("accept 2M 4K") == .accept(address: 2 << 20, size: 4096))
        #expect(try step("read 0x1000 16") == .read(address: 0x1000, count: 16))
        #expect(try step("write 0x1001 01ff 20") == .write(address: 0x1001, bytes: [1, 0xFF, 0x20]))
        #expect(try step(#"expect 0 "a\n" 00"#) == .expect(address: 0, bytes: [97, 10, 0]))
        #expect(
            try step("convert 0 2M shared") == .convert(address: 0, size: 2 << 20, toShared: true, succeeds: true))
        #expect(
            try step("convert 0 4096 private refused")
                == .convert(address: 0, size: 4096, toShared: false, succeeds: false))
        #expect(
            try step("mmio read 0xfec00000 4 expect 7") == .mmioRead(address: 0xFEC0_0000, size: 4, expected: 7))
        #expect(try step("mmio write 0xfec00000 8 1") == .mmioWrite(address: 0xFEC0_0000, size: 8, value: 1))
        #expect(try step("port read 0x60 1") == .portRead(port: 0x60, size: 1, expected: nil))
        #expect(try step("port write 0xcf8 4 0xffffffff") == .portWrite(port: 0xCF8, size: 4, value: 0xFFFF_FFFF))
        #expect(
            try step("vmcall 0x10000 r12=1 expect r10=0 r11=2")
                == .vmcall(number: 0x10000, registers: ["r12": 1], expected: ["r10": 0, "r11": 2]))
        #expect(try step("wait 5") == .wait(milliseconds: 5))
        #expect(try step(#"print "a # b" # a comment"#) == .print("a # b"))
        #expect(try step("fatal 1") == .fatal(code: 1))
        #expect(try step("reset") == .reset)
        #expect(try step("poweroff") == .powerOff)
    }

    @Test func `steps are repeated and belong to a vCPU`() throws {
        let script = try GuestScript(
            parsing: "wait 1\nrepeat 3\n  wait 2\n  repeat 2\n wait 3\n end\nend\r\ncpu 4\nwait 5\n")
        #expect(
            script.steps[0] == [
                NumberedStep(line: 1, step: .wait(milliseconds: 1)),
                NumberedStep(
                    line: 2,
                    step: .repeated(
                        count: 3,
                        steps: [
                            NumberedStep(line: 3, step: .wait(milliseconds: 2)),
                            NumberedStep(
                                line: 4,
                                step: .repeated(
                                    count: 2, steps: [NumberedStep(line: 5, step: .wait(milliseconds: 3))])),
                        ])),
            ])
        #expect(script.steps[4] == [NumberedStep(line: 9, step: .wait(milliseconds: 5))])
        #expect(script.lastLine == 9)
        #expect(try GuestScript(parsing: "# nothing\n\n").steps.isEmpty)
    }

    @Test(arguments: [
        ("walk 1", "unknown step"), ("accept 1 4096", "not a multiple"), ("accept 0 0", "must be 4096"),
        ("accept 0", "a size is missing"), ("accept 0 4096 5", "“5” is too much"), ("read 0 4097", "1 to 4096"),
        ("read -1 1", "is not an address"), ("read 0x-1 1", "is not an address"), ("write 0", "bytes are missing"),
        ("write 0 abc", "odd number"), ("write 0 xy", "hexadecimal"), (#"write 0 "a"#, "do not close"),
        (#"print "\q""#, "after \\ comes"), ("print a", "a text in quotation marks"),
        ("convert 0 4096 both", "is not private or shared"), ("mmio read 0 3", "one of 1, 2, 4, 8"),
        ("port write 1 1 256", "0 to 255"), ("port read 65536 1", "0 to 65535"), ("vmcall 1 r9=1", "no register"),
        ("vmcall 1 r12=1 r12=2", "comes twice"), ("wait 99999999999999999999", "is not milliseconds"),
        ("wait 20000000T", "is not milliseconds"), ("end", "without “repeat”"), ("repeat 2\nend", "an empty"),
        ("repeat 0", "1 to"), ("convert 0x3ffffffff000 8K shared", "beyond 2^46"), ("cpu 4096", "0 to 4095"),
    ])
    func `a bad line is refused by its number`(line: String, reason: String) {
        let error = #expect(throws: GuestScriptErrors.self) { try GuestScript(parsing: "wait 1\n" + line) }
        let first = error?.errors.first
        #expect(first?.message.contains(reason) == true, "\(String(describing: error))")
        #expect((2...3).contains(first?.line ?? 0))
    }

    @Test func `all bad lines are told at once, and an open block by its beginning`() {
        let error = #expect(throws: GuestScriptErrors.self) {
            try GuestScript(parsing: "repeat 2\nbad\nwait 1\nworse")
        }
        #expect(error?.errors.map(\.line).sorted() == [1, 2, 4])
        #expect("\(error!)".contains("line 2: unknown step “bad”"))
    }
}
