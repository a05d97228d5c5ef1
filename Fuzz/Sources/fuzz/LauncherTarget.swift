internal import HolderLaunch

extension FuzzTarget {
    /// One message of the socket between tdxd and its launcher, read by either side. What is accepted fits, and is read again
    /// the same; a command line has nothing in it that the message could choose but values of lists, numbers and the TD's id.
    static let launcher = FuzzTarget(name: "launcher") { bytes in
        do throws(LaunchFlaw) {
            let request = try LaunchRequest(decoding: bytes)
            hold(LaunchRequest.number(in: bytes) == request.number, "\(request) has another number")
            let message = request.encoded()
            hold(message.count <= LaunchRequest.limit, "\(request) takes \(message.count) bytes")
            hold(try LaunchRequest(decoding: message) == request, "\(request) is read again as another")
            if case .serve(let order) = request.order {
                for argument in order.arguments(holders: "/h", traces: "/t") {
                    let isPath = argument == "/h/\(order.id)" || argument == "/t/\(order.id).jsonl"
                    hold(
                        isPath || argument.utf8.allSatisfy { isPlain($0) } && argument.utf8.count < 40,
                        "“\(argument)” on a command line")
                }
            }
        } catch { hold(!error.description.isEmpty, "a flaw without words") }
        do throws(LaunchFlaw) {
            let answer = try LaunchAnswer(decoding: bytes)
            let message = answer.encoded()
            hold(message.count <= LaunchRequest.limit, "\(answer) takes \(message.count) bytes")
            // Long texts are cut, once.
            let again = try LaunchAnswer(decoding: message)
            hold(again.number == answer.number, "\(answer) is read again as another")
            hold(try LaunchAnswer(decoding: again.encoded()) == again, "\(again) is cut once more")
        } catch { hold(!error.description.isEmpty, "a flaw without words") }
    }

    /// a–z, 0–9 and the dash.
    private static func isPlain(_ byte: UInt8) -> Bool {
        (97...122).contains(byte) || (48...57).contains(byte) || byte == UInt8(ascii: "-")
    }
}

extension LaunchAnswer {
    fileprivate var number: UInt64? {
        switch self {
        case .ready: nil
        case .started(let number, _), .refused(let number, _), .ended(let number, _): number
        }
    }
}
