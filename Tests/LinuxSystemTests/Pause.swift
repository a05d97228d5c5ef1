import Glibc

func pauseUntilSignal() { _ = pause() }
