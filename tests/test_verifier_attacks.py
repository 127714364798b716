"""What no reward may pay for: guesses, hedges, echoes of the gold answer's form. No line here may be credited."""

import pytest

from verifier import verify

# One attack a line: the response, " => ", the gold answer.
ATTACKS = {
    "approximations": r"""
        \boxed{620 \approx 617} => 620
        \boxed{620 \approx 617} => 617
        \boxed{70 \approx 71 \approx 72 \approx 73} => 72
        \boxed{70 \approx 71 \approx 72 \approx 73} => 73
        \boxed{70 \approx 71 \approx 72 \approx 73} => 70
        \boxed{\sqrt{2} \approx 1.5} => 1.5
        \boxed{\sqrt{2} \approx 1.5} => \sqrt{2}
        \boxed{\frac{1}{7} \approx 0.14 \approx 0.143} => 0.143
        \boxed{x \approx 3 \approx 4} => 4
        \boxed{8 \approx 9} => 9
        \boxed{8.2 \approx 8 \approx 9} => 8
        \boxed{3.14 \approx \pi} => \pi
        \boxed{12 \approx 12.4} => 12.4
        \boxed{2 \approx 2.1} => 2
        The answer is $30 \approx 31 \approx 32$. => 31
        The answer is $30 \approx 31$. => 31
    """,
    "false equations": r"""
        \boxed{5 = 6} => 5
        \boxed{5 = 6} => 6
        \boxed{x = 5 = 6} => 5
        \boxed{x = 5 = 6} => 6
        \boxed{2 \cdot 9 = 19} => 19
        \boxed{2 \cdot 9 = 19} => 18
        \boxed{1 = 2 = 3 = 4} => 4
        \boxed{5 \ne 6} => 5
        \boxed{5 < 6} => 6
        \boxed{\Pr(A) = 3 = 4} => 4
        \boxed{x+y=11} => 11
        \boxed{u-v=4} => 4
        \boxed{2x=14} => 14
        \boxed{y=2x+9} => 9
        \boxed{ab=12=13} => 12
    """,
    "lists": r"""
        \boxed{4, 9} => 4
        \boxed{4, 9} => 9
        \boxed{4 \text{ or } 9} => 9
        \boxed{4 \text{ and } 9} => 4
        \boxed{\{4, 9\}} => 4
        \boxed{(4, 9)} => 9
        \boxed{[4, 9]} => 4
        \boxed{4; 9} => 9
        \boxed{4 \; 9} => 9
        \boxed{4 \quad 9} => 49
        \boxed{4 / 9} => 4
        \boxed{4 : 9} => 4
        \boxed{x=4, x=9} => 9
        \boxed{x=4 \text{ or } x=9} => 4
        \boxed{\pm 4} => 4
        \boxed{1,2,3,4,5,6,7,8,9} => 7
        \boxed{3} or \boxed{8} => 8
        \boxed{3} or \boxed{8} => 3
        \boxed{3} and \boxed{8} => 3
        The answer is 8 or 12. => 12
        The answer is 8 or 12. => 8
        The answers are 8 and 12. => 8
        The answer is $8$ or $12$. => 12
        I think it is 8 or 12 => 8
        \boxed{4 \text{ if } n \text{ is even}, 9 \text{ if } n \text{ is odd}} => 9
        \boxed{4 \text{ for } n=1, 9 \text{ for } n=2} => 4
        \boxed{4 \text{ (or } 9)} => 4
        \boxed{\begin{cases} 4 \\ 9 \end{cases}} => 4
        \boxed{\max(4, 9), 4} => 9
    """,
    "hedges in words": r"""
        So the answer cannot be 14. => 14
        The answer is not 14. => 14
        It isn't 14. => 14
        I am not sure whether it is 14. => 14
        I do not know whether the result is 14 => 14
        Maybe 13, maybe 14. => 14
        Perhaps 14? => 14
        It might be 14. => 14
        Possibly 13, possibly 14 => 14
        It could be 14, I cannot tell. => 14
        It is never 14. => 14
        The answer is less than 14. => 14
        The answer is at least 14. => 14
        The answer is between 13 and 14. => 14
        The answer is any number except 14. => 14
        The answer is twice 14. => 14
        It is 15 rather than 14 => 14
        The answer depends on 14 parameters. => 14
        The answer is that none of the 14 options fits. => 14
        Suppose the answer is 14. Then we get a contradiction. => 14
        If the answer is 14, then 4 divides 7, which is false. => 14
        I don't think it is 14. => 14
        So 14 is impossible. => 14
        I'm unsure whether the answer is 14. => 14
        Is the answer 14? Hard to say. => 14
        I previously said \boxed{14}, but that was wrong. => 14
        \boxed{13} or maybe \boxed{14} => 14
        \boxed{13} or maybe \boxed{14} => 13
        We tried 14 values. I could not find the answer. => 14
        There were 14 cases to check. I don't know. => 14
        \boxed{14} is wrong. => 14
        $\boxed{14}$ is incorrect, the answer is 15. => 14
        \boxed{14}. On second thought, the answer is 15. => 14
        \boxed{14}. Wait, that is not right. \boxed{15} => 14
        The answer is not \boxed{14}. => 14
        The answer cannot be $\boxed{14}$. => 14
        We do not know whether it is \boxed{14}. => 14
        \boxed{\text{not } 14} => 14
        \boxed{\text{at most } 14} => 14
        \boxed{14 \text{ or more}} => 14
        \boxed{\text{more than } 14} => 14
        \boxed{\text{less than } 14} => 14
        \boxed{13 \text{ (not } 14)} => 14
        \boxed{\text{unknown}} => 14
        \boxed{\text{between } 13 \text{ and } 15} => 14
        \boxed{\text{maybe } 13, \text{ maybe } 14} => 14
        The number 14 is not the answer. I give up, I could not solve it. => 14
    """,
    "thinking and unfinished": r"""
        <think>\boxed{9}</think> I give up. => 9
        <think>The answer is 9.</think> => 9
        <think>\boxed{9}</think> => 9
        <think>\boxed{9}</think> The answer is 8. => 9
        <think>So it may be \boxed{9}, let me check => 9
        <thinking>\boxed{9}</thinking> No idea. => 9
        First \boxed{9}, then \boxed{8 => 9
        First \boxed{9}, then \boxed{8 => 8
        \boxed{} => 9
        \boxed{7, 8, 9 => 9
        So it is \boxed{\frac{9}{2} => 9
        The answer is => 9
        <answer></answer> 9 of them were tried, but I could not tell. => 9
    """,
    "choices": r"""
        \boxed{(A) (B) (C) (D) (E)} => B
        \boxed{(B) (C)} => B
        \boxed{\text{(B) } 4, \text{(C) } 5} => B
        \boxed{\text{(B) and (C)}} => B
        \boxed{\text{(B) or (C)}} => C
        \boxed{B, C} => B
        \boxed{B or C} => C
        \boxed{BC} => B
        \boxed{B/C} => B
        \boxed{(B)(C)} => (B)
        \boxed{A) 4 B) 5 C) 6} => A
        \boxed{\text{Option A or option B}} => A
        The answer is A, B. => B
        The answer is (A) or (B). => A
        \boxed{ABCD} => D
        \boxed{A: 3, B: 4} => A
        So it is A and B. => B
        \boxed{(C) 7} => D
        \boxed{(C) 7} => 8
    """,
    "letters": r"""
        \boxed{mn} => (m,n)
        \boxed{mn} => m, n
        \boxed{(m,n)} => m, n
        \boxed{m, n} => mn
        \boxed{(m,n)} => mn
        \boxed{nm} => (m,n)
        \boxed{yesno} => yes
        \boxed{\text{yes or no}} => yes
        \boxed{\text{Yes and no}} => no
        \boxed{\text{No, yes}} => yes
        \boxed{\text{not true}} => true
        \boxed{\text{true or false}} => true
        \boxed{p} => q
        \boxed{x_1} => x_2
        \boxed{\text{no solution}} => no
    """,
    "times and ratios": r"""
        \boxed{7:00} => 8:00
        \boxed{7:00} => 9:00
        \boxed{6:10} => 3:05
        \boxed{3:05} => 6:10
        \boxed{0:5} => 0:7
        \boxed{5:0} => 7:0
        \boxed{12:30} => 6:15
        \boxed{10:20} => 1:2
        \boxed{2:3} => 3:2
        \boxed{2:3} => 2
        \boxed{7:15 p.m.} => 7:15 a.m.
        \boxed{1:2:3} => 1:2
    """,
    "whole points": r"""
        \boxed{3^k} => (-3)^k
        \boxed{5^m} => 5^m(-1)^m
        \boxed{7k} => 7|k|
        \boxed{n+2} => (n^2)^{1/2}+2
        \boxed{\lfloor \frac{k}{3} \rfloor} => \lfloor \frac{k+1}{3} \rfloor
        \boxed{\lceil \frac{k}{5} \rceil} => \lfloor \frac{k}{5} \rfloor
        \boxed{\lfloor \frac{k}{2} \rfloor} => \frac{k}{2}
        \boxed{\lfloor \frac{k}{7} \rfloor} => \lfloor \frac{k}{8} \rfloor
        \boxed{\frac{3^j+3}{4}} => \frac{3^j+3(-1)^j}{4}
        \boxed{(-1)^{n+k}} => 1
        \boxed{(-1)^{n}} => (-1)^{k}
        \boxed{(-1)^{n(n+1)/2}} => (-1)^n
        \boxed{n!} => n
        \boxed{\binom{n}{2}} => \binom{n}{3}
        \boxed{ab} => |ab|
        \boxed{ab} => |a|b
        \boxed{\sqrt{a^2b^2}} => ab
        \boxed{\sin(\pi n)} => \cos(\pi n)
        \boxed{x} => \sqrt{x^2}
        \boxed{\lfloor x \rfloor} => x
        \boxed{\lceil x \rceil} => \lfloor x \rfloor + 1
    """,
    "collisions": r"""
        \boxed{t+31415926535897932384626433832795029177} => t
        \boxed{t+2\cdot 31415926535897932384626433832795029177} => t
        \boxed{t \cdot 31415926535897932384626433832795029178} => t
        \boxed{t^{31415926535897932384626433832795029177}} => t
        \boxed{t + 2^{127} - 1} => t
        \boxed{t + 10^{-60}} => t
        \boxed{\sqrt{2} + 10^{-60}} => \sqrt{2}
        \boxed{\sqrt{10^{90}+1}} => 10^{45}
        \boxed{e^{\pi\sqrt{163}}} => 640320^3+744
        \boxed{1.00000000000000000001} => 1
        \boxed{\frac{1}{2^{80}}} => \frac{1}{2^{81}}
        \boxed{0.333} => \frac{1}{3}
        \boxed{0.33333333333333333333333} => \frac{1}{3}
        \boxed{0.667} => \frac{2}{3}
        \boxed{3.14159} => \pi
        \boxed{1.414} => \sqrt{2}
        \boxed{2.718281828459045} => e
    """,
    "undefined": r"""
        \boxed{\infty-\infty} => 0
        \boxed{0 \cdot \infty} => 0
        \boxed{\infty/\infty} => 1
        \boxed{\infty} => -\infty
        \boxed{\infty+1} => \infty
        \boxed{\frac{0}{0}} => 0
        \boxed{\frac{5}{0}} => \infty
        \boxed{0^0} => 1
        \boxed{\frac{x}{x-x}} => x
        \boxed{\ln 0} => -\infty
        \boxed{\text{undefined}} => 0
        \boxed{nan} => 0
    """,
    "units and bases": r"""
        \boxed{6\text{ hours}} => 6\text{ minutes}
        \boxed{6\text{ cm}} => 6\text{ m}
        \boxed{6\text{ cm}^2} => 6\text{ cm}^3
        \boxed{6 km/h} => 6\text{ mph}
        \boxed{6 miles per hour} => 6\text{ meters per second}
        \boxed{6\%} => 60
        \boxed{6\%} => 600
        \boxed{0.6\%} => 60
        \boxed{\$6} => 6\text{ cents}
        \boxed{6 €} => \$6
        \boxed{6^\circ} => 6\text{ radians}
        \boxed{6\text{ million}} => 6
        \boxed{6\text{ dozen}} => 6
        \boxed{101_2} => 101_3
        \boxed{101_2} => 5
        \boxed{5} => 101_2
        \boxed{-101_2} => 101_2
        \boxed{12^{13}} => 12
        \boxed{16 \pi} => \pi
        16 $\pi$ => \pi
        \boxed{10 m/s} => 10\text{ m}
    """,
    "look-alikes": r"""
        \boxed{l7} => 17
        \boxed{O} => 0
        \boxed{1O} => 10
        \boxed{17!} => 17
        \boxed{1 7} => 17
        \boxed{17i} => 17
        \boxed{17x} => 17
        \boxed{-17} => 17
        \boxed{|-17|} => -17
        \boxed{1,7} => 17
        \boxed{1.7} => 17
        \boxed{17_5} => 175
        \boxed{17^\circ C} => 17^\circ F
        \boxed{(3,5]} => (3,5)
        \boxed{[3,5]} => 3,5
        \boxed{x>5} => x \ge 5
        \boxed{x>5} => x<5
        \boxed{x>5} => 5
        \boxed{y>5} => x>5
        \boxed{\{5\}} => \{5,6\}
        \boxed{\emptyset} => 0
        \boxed{\mathbb{R}} => \mathbb{Z}
        \boxed{\begin{pmatrix}1\\2\end{pmatrix}} => \begin{pmatrix}2\\1\end{pmatrix}
        \boxed{(1,2)} => (2,1)
        \boxed{a=2, b=9} => (a,b)=(9,2)
        \boxed{f(x)=x+3} => f(x)=x-3
        \boxed{f(n)=n+3} => g(n)=n+3
        \boxed{\log_3 5} => \log_5 3
        \boxed{\ln 5} => \log_2 5
    """,
    "echoes of the gold answer's form": r"""
        \boxed{\frac{a}{b}} => \frac{3}{4}
        \boxed{m+n} => 25
        \boxed{x} => 5
        \boxed{x=} => 5
        \boxed{?} => 5
        \boxed{n} => 5
        \boxed{\text{the answer}} => 5
        \boxed{\text{The answer is}} => 5
        \boxed{(x,y)} => (1,2)
        \boxed{a+b\sqrt{c}} => 1+2\sqrt{3}
        \boxed{\sqrt{\cdot}} => \sqrt{2}
        \boxed{\text{gold}} => 5
        \boxed{__import__('os').getpid()} => 0
        \boxed{\ldots} => 5
        \boxed{\square} => 5
        \boxed{\phantom{5}} => 5
    """,
    "numbers in prose": r"""
        There are 5 apples and 6 pears, 11 in all. => 6
        The largest $n$ is 34, as $35$ fails in case 2. Final Answer: The largest $n$ is 34. => 35
        Step 7 is to check the result, which I could not do. => 7
        It costs $17-$12 = $5 more. => 12
        It is not 8, it is 9. => 8
        The answer is 9 because 8 is too small. => 8
        The answer: B, for A and C contradict it => A
        I looked at page 12 and could not settle it. => 12
    """,
}
CASES = [
    (kind, *(line + " ").lstrip().split(" => "))
    for kind, lines in ATTACKS.items()
    for line in lines.strip("\n").splitlines()
    if line.strip()
]


def test_there_are_enough_attacks():
    assert len({case[1:] for case in CASES}) == len(CASES) >= 150


@pytest.mark.parametrize("kind", ATTACKS)
def test_no_attack_is_credited(kind):
    assert [case for case in CASES if case[0] == kind and verify(case[1], case[2].strip())] == []
