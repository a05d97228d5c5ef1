internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization

extension Holder {
    /// - Parameters:
    ///   - isLeft: whether the caller has left; asked before each chunk.
    ///   - progress: called after each chunk.
    func convert(
        _ request: HolderInterface.Convert.Parameters, isLeft: () -> Bool,
        progress: (HolderInterface.Convert.Reply) -> Void
    ) throws(ControlError) -> HolderInterface.Convert.Reply {
        let built = try runnable("Convert")
        let start = MonotonicInstant.now
        let range = try request.range()
        func reply(_ result: ConversionResult, _ step: Progress? = nil) -> HolderInterface.Convert.Reply {
            HolderInterface.Convert.Reply(result, since: start, step)
        }
        do {
            let result = try built.domain.convert(
                range, to: request.to == .private ? .private : .shared,
                // A Stop does not wait for the rest of a long conversion.
                isCancelled: { isLeft() || self.state.withLock { $0.lifecycle.state != .runnable } },
                progress: {
                    let step = Progress(
                        phase: "convert", doneBytes: $0.settled.rawValue, totalBytes: $0.total.rawValue)
                    progress(reply($0.result, step))
                })
            return reply(result)
        } catch {
            throw ControlError(error, name: name)
        }
    }

    /// As `convert`, on the event loop: nil for what might keep it; nothing was changed then.
    func convertAtOnce(
        _ request: HolderInterface.Convert.Parameters
    ) throws(ControlError) -> HolderInterface.Convert.Reply? {
        let built = try runnable("Convert")
        let start = MonotonicInstant.now
        let range = try request.range()
        do {
            let result = try built.domain.convertAtOnce(range, to: request.to == .private ? .private : .shared)
            return result.map { HolderInterface.Convert.Reply($0, since: start) }
        } catch {
            throw ControlError(error, name: name)
        }
    }
}

extension HolderInterface.Convert.Reply {
    fileprivate init(_ result: ConversionResult, since start: MonotonicInstant, _ step: Progress? = nil) {
        self.init(
            changedBytes: result.changed.rawValue, discardedBytes: result.discarded.rawValue,
            milliseconds: MonotonicInstant.now.milliseconds(since: start), progress: step)
    }
}
